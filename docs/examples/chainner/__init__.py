"""A package of one node for chaiNNer: copy this folder to backend/src/packages/srcli, with srcli in chaiNNer's Python."""

from api import MB, Dependency, add_package

package = add_package(
    __file__,
    id="srcli",
    name="srcli",
    description="Enlarges images by any real factor.",
    dependencies=[
        Dependency(display_name="srcli", pypi_name="srcli", version="0.1.0", size_estimate=50 * MB)
    ],
)
category = package.add_category(
    name="srcli",
    description="Enlarging by any real factor.",
    icon="MdOutlinePhotoSizeSelectLarge",
    color="#3182CE",
)
group = category.add_node_group("Upscale")
