// What is seen: the picture at any scale, first as the browser enlarges it, then as the network does.
const MOST = 16, LEAST = 1; // scales
const LARGEST = 2 ** 27; // pixels of a picture that a page can save
const $ = (id) => document.getElementById(id);
const view = $("view"), context = view.getContext("2d");
const worker = new Worker("worker.js" + location.hash, { type: "module" });

let picture = null; // { bitmap, width, height, name }
let scale = 2, centre = [0.5, 0.5]; // of the view, as shares of the picture (x, y)
let layer = null; // what the network gave: { canvas, size, box }
let job = null, id = 0, timer = 0, comparing = false;

const even = (x) => { const low = Math.floor(x); return x - low === 0.5 ? low + (low % 2) : Math.round(x); };
const sizeAt = (s) => [Math.max(1, even(picture.height * s)), Math.max(1, even(picture.width * s))];
const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const seconds = (s) => `${s.toFixed(s < 10 ? 1 : 0)} s`;

function tell(text, state) {
  $("status").textContent = text;
  if (state) document.body.dataset.state = state;
}

// Left and top of the enlarged picture in the view, whole device pixels.
function corner([height, width]) {
  const place = (length, share, room) => Math.round(length <= room ? (room - length) / 2 : clamp(room / 2 - share * length, room - length, 0));
  return [place(width, centre[0], view.width), place(height, centre[1], view.height)];
}

function draw() {
  context.clearRect(0, 0, view.width, view.height);
  if (!picture) return;
  const size = sizeAt(scale), [left, top] = corner(size);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture.bitmap, left, top, size[1], size[0]);
  if (!layer || comparing) return;
  const [t, l, b, r] = layer.box, [h, w] = layer.size, same = h === size[0] && w === size[1];
  context.imageSmoothingEnabled = !same;
  context.drawImage(layer.canvas, left + (l * size[1]) / w, top + (t * size[0]) / h, ((r - l) * size[1]) / w, ((b - t) * size[0]) / h);
}

function canvasOf([t, l, b, r]) {
  const canvas = document.createElement("canvas");
  canvas.width = r - l;
  canvas.height = b - t;
  return canvas;
}

function ask(size, box, save) {
  const canvas = canvasOf(box);
  job = { id: ++id, size, box, canvas, context: canvas.getContext("2d"), save };
  if (!save && layer) { // what is there already, until there is better
    const [t, l, b, r] = layer.box, [h, w] = layer.size;
    const y = size[0] / h, x = size[1] / w;
    job.context.drawImage(layer.canvas, l * x - box[1], t * y - box[0], (r - l) * x, (b - t) * y);
  }
  worker.postMessage({ type: "render", id: job.id, size, box });
}

function look() { // the network's answer for what is seen now
  if (!picture || job?.save) return;
  const size = sizeAt(scale), [left, top] = corner(size);
  const box = [Math.max(0, -top), Math.max(0, -left), Math.min(size[0], view.height - top), Math.min(size[1], view.width - left)];
  tell("computing …", "busy");
  ask(size, box, false);
}

function changed(wait = 150) {
  if (!picture) return;
  const [height, width] = sizeAt(scale);
  $("slider").value = (1000 * Math.log(scale / LEAST)) / Math.log(MOST / LEAST);
  if (document.activeElement !== $("scale")) $("scale").value = String(Number(scale.toFixed(3)));
  $("size").textContent = `${width} × ${height}`;
  draw();
  if (job?.save) return;
  document.body.dataset.state = "busy";
  worker.postMessage({ type: "stop", id: ++id });
  clearTimeout(timer);
  timer = setTimeout(look, wait);
}

// Another scale; the point of the view at (x, y) device pixels stays where it is.
function zoom(to, x = view.width / 2, y = view.height / 2) {
  if (!picture || !(to > 0)) return;
  const [left, top] = corner(sizeAt(scale)), [h, w] = sizeAt(scale), seen = [(x - left) / w, (y - top) / h];
  scale = clamp(to, LEAST, MOST);
  const [height, width] = sizeAt(scale);
  centre = [seen[0] + (view.width / 2 - x) / width, seen[1] + (view.height / 2 - y) / height];
  changed();
}

function pan(x, y) {
  if (!picture) return;
  const [height, width] = sizeAt(scale), [left, top] = corner([height, width]);
  centre = [clamp((view.width / 2 - left - x) / width, 0, 1), clamp((view.height / 2 - top - y) / height, 0, 1)];
  changed();
}

async function open(file) {
  if (!file) return;
  tell(`opening ${file.name} …`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return tell(`${file.name} is no picture that this browser reads.`, picture ? undefined : "failed");
  }
  const { width, height } = bitmap;
  if (Math.min(width, height) < 2) return tell(`${file.name} has a side of one pixel; two are needed.`);
  const canvas = canvasOf([0, 0, height, width]), ink = canvas.getContext("2d", { willReadFrequently: true });
  ink.fillStyle = "#fff"; // under what is transparent
  ink.fillRect(0, 0, width, height);
  ink.drawImage(bitmap, 0, 0);
  const { data } = ink.getImageData(0, 0, width, height);
  picture = { bitmap: canvas, width, height, name: file.name.replace(/\.[^.]*$/, "") };
  [layer, job, centre, scale] = [null, null, [0.5, 0.5], 2];
  worker.postMessage({ type: "picture", data, width, height }, [data.buffer]);
  for (const each of ["slider", "scale", "compare", "save"]) $(each).disabled = false;
  changed(0);
}

function save() {
  if (!picture || job?.save) return;
  const [height, width] = sizeAt(scale);
  if (height * width > LARGEST || Math.max(height, width) > 16384) {
    return tell(`${width} × ${height} is too large for a page: srcli upscale ${picture.name} --scale ${Number(scale.toFixed(3))}`);
  }
  tell("computing the whole picture …", "busy");
  ask([height, width], [0, 0, height, width], true);
}

function finish(done) {
  const on = done.backend === "wasm" ? `wasm, ${done.threads === 1 ? "1 thread" : `${done.threads} threads`}` : "WebGPU";
  const { canvas, size } = job, wasSaved = job.save;
  job = null;
  if (!wasSaved) return tell(`${seconds(done.seconds)} (${on})`, "ready");
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${picture.name}_${size[1]}x${size[0]}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    tell(`${link.download}, ${seconds(done.seconds)} (${on})`, "ready");
    changed();
  });
}

worker.onmessage = ({ data }) => {
  if (data.type === "failed") {
    job = null;
    return tell(`The network did not run: ${data.message}`, "failed");
  }
  if (data.id !== job?.id) return;
  if (data.type === "done") return finish(data);
  $("status").textContent = `computing … ${Math.round(100 * data.share)} %`;
  if (data.type !== "block") return;
  const [top, left, bottom, right] = data.box;
  job.context.putImageData(new ImageData(data.pixels, right - left, bottom - top), left - job.box[1], top - job.box[0]);
  if (!job.save) {
    layer = job;
    draw();
  }
};
worker.onerror = () => tell("The page's files did not load: open it through a web server (srcli web --serve).", "failed");

$("file").onchange = ({ target }) => { open(target.files[0]); target.value = ""; };
$("slider").oninput = ({ target }) => zoom(LEAST * (MOST / LEAST) ** (target.value / 1000));
$("scale").onchange = ({ target }) => { zoom(Number(target.value.replace(",", "."))); target.blur(); };
$("save").onclick = save;
const compare = (on) => { comparing = on; draw(); };
$("compare").onpointerdown = () => compare(true);
for (const each of ["onpointerup", "onpointerleave", "onpointercancel"]) $("compare")[each] = () => compare(false);

addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("over"));
addEventListener("drop", (event) => { event.preventDefault(); document.body.classList.remove("over"); open(event.dataTransfer.files[0]); });
addEventListener("paste", (event) => open(event.clipboardData.files[0]));

const STEP = 60;
const keys = {
  "+": () => zoom(scale * 1.1), "=": () => zoom(scale * 1.1), "-": () => zoom(scale / 1.1), s: save, o: () => $("file").click(),
  ArrowLeft: () => pan(STEP, 0), ArrowRight: () => pan(-STEP, 0), ArrowUp: () => pan(0, STEP), ArrowDown: () => pan(0, -STEP),
  " ": () => compare(true), 0: () => zoom(Math.min(view.width / picture?.width, view.height / picture?.height)),
};
addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=range])") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, button") && (event.key === " " ? event.target.id !== "compare" : event.key.startsWith("Arrow"))) return;
  const act = keys[event.key] ?? (/^[1-8]$/.test(event.key) ? () => zoom(Number(event.key)) : null);
  if (act) { event.preventDefault(); act(); }
});
addEventListener("keyup", (event) => event.key === " " && compare(false));

const at = (event) => [event.offsetX * devicePixelRatio, event.offsetY * devicePixelRatio];
view.addEventListener("wheel", (event) => { event.preventDefault(); zoom(scale * Math.exp(-event.deltaY / 500), ...at(event)); }, { passive: false });
view.ondblclick = (event) => zoom(scale * 1.5, ...at(event));
const fingers = new Map();
view.onpointerdown = (event) => { view.setPointerCapture(event.pointerId); fingers.set(event.pointerId, at(event)); };
view.onpointerup = view.onpointercancel = (event) => fingers.delete(event.pointerId);
view.onpointermove = (event) => {
  const before = fingers.get(event.pointerId), now = at(event);
  if (!before) return;
  fingers.set(event.pointerId, now);
  if (fingers.size === 1) return pan(now[0] - before[0], now[1] - before[1]);
  const other = [...fingers].find(([key]) => key !== event.pointerId)[1];
  const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
  zoom((scale * apart(now)) / Math.max(1, apart(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
};

new ResizeObserver(() => {
  view.width = Math.round(view.clientWidth * devicePixelRatio);
  view.height = Math.round(view.clientHeight * devicePixelRatio);
  changed();
}).observe(view);

fetch("model.json").then((answer) => answer.json()).then((model) => {
  $("about").textContent = `${model.title} (${model.license}), srcli ${model.srcli}`;
}).catch(() => tell("model.json did not load: open the page through a web server (srcli web --serve).", "failed"));
