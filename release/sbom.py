"""What an installed srcli consists of, as a CycloneDX 1.6 bill of materials on standard output.

    PYTHON release/sbom.py > srcli.cdx.json      PYTHON: of the environment that srcli is installed in

Packages are those that srcli asks for, without extras, as they are installed; models are the weights in the package.
"""

import hashlib
import json
import uuid
from importlib.metadata import Distribution, distribution, version

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from srcli.config.presets import list_presets
from srcli.weights.files import as_filed, is_bundled, locate


def requirements(found: Distribution, extras: set[str]) -> list[Requirement]:
    """What a package asks for here, with these of its extras."""
    asked = [Requirement(line) for line in found.requires or ()]
    environment = dict(default_environment())
    return [
        each
        for each in asked
        if each.marker is None or any(each.marker.evaluate(environment | {"extra": e}) for e in ("", *extras))
    ]


def installed(name: str) -> dict[str, tuple[Distribution, list[str]]]:
    """Every package below `name`, with the names of those that it asks for."""
    found: dict[str, tuple[Distribution, list[str]]] = {}
    left: list[tuple[str, set[str]]] = [(canonicalize_name(name), set())]
    seen = set()
    while left:
        package, extras = left.pop()
        if (package, frozenset(extras)) in seen:
            continue
        seen.add((package, frozenset(extras)))
        about = distribution(package)
        below = [(canonicalize_name(each.name), each.extras) for each in requirements(about, extras)]
        names = {*(found[package][1] if package in found else ()), *(each for each, _ in below)}
        found[package] = about, sorted(names)
        left += below
    return found


def reference(found: Distribution) -> str:
    """The package URL."""
    number = found.version.replace("+", "%2B")
    return f"pkg:pypi/{canonicalize_name(found.metadata['Name'])}@{number}"


def licences(found: Distribution) -> list[dict]:
    """What a package says of its licence: an SPDX expression, or names."""
    if expression := found.metadata.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = found.metadata.get_all("Classifier") or []
    names = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License :: ")]
    text = (found.metadata.get("License") or "").strip().partition("\n")[0]
    return [{"license": {"name": name}} for name in names or ([text] if text else [])]


def component(found: Distribution) -> dict:
    """A package."""
    about = {"type": "library", "bom-ref": reference(found), "name": found.metadata["Name"]}
    about |= {"version": found.version, "purl": reference(found), "licenses": licences(found)}
    return {key: value for key, value in about.items() if value}


def models() -> list[dict]:
    """The weights in the package."""
    presets = [as_filed(preset) for preset in list_presets() if is_bundled(preset)]
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"model:{preset.name}",
            "name": preset.name,
            "version": version("srcli"),
            "description": preset.title,
            "hashes": [
                {"alg": "SHA-256", "content": hashlib.sha256(locate(preset).read_bytes()).hexdigest()}
            ],
            "licenses": [{"license": {"id": preset.weights.license}}],
        }
        for preset in presets
    ]


def bill() -> dict:
    """All of it; equal for equal environments."""
    packages = installed("srcli")
    references = {name: reference(found) for name, (found, _) in packages.items()}
    own = models()
    below = {references[name]: [references[each] for each in names] for name, (_, names) in packages.items()}
    below[references["srcli"]] += [each["bom-ref"] for each in own]
    root = {**component(packages["srcli"][0]), "type": "application"}
    parts = [component(found) for name, (found, _) in sorted(packages.items()) if name != "srcli"] + own
    content = json.dumps([root, parts, below], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "version": 1,
        "metadata": {"component": root},
        "components": parts,
        "dependencies": [{"ref": ref, "dependsOn": on} for ref, on in sorted(below.items())],
    }


if __name__ == "__main__":
    print(json.dumps(bill(), indent=2))
