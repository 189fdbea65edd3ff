// Runs the network: encoder tiles are computed where they are looked at and kept, the decoder answers any box of any size.
const TILE = 192; // LR pixels of a tile's side, without its margin
const WHOLE = 320 * 320; // LR pixels of a picture that is encoded at once
const BLOCK = 256; // output pixels of a block's side
const KEPT = 384 * 2 ** 20; // bytes of tiles

const here = new URL(".", self.location.href).href;
const model = fetch("model.json").then((answer) => answer.json());
let ort, backend, picture, newest = 0;
const sessions = new Map(), tiles = new Map();

async function runtime(wanted) {
  const adapter = wanted && self.navigator.gpu ? await navigator.gpu.requestAdapter().catch(() => null) : null;
  const gpu = adapter && (await model).webgpu && (!adapter.info?.isFallbackAdapter || self.location.hash === "#webgpu");
  ort = await import(gpu ? "./ort.webgpu.min.mjs" : "./ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = here;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency || 1) : 1;
  ort.env.logLevel = "error";
  backend = gpu ? "webgpu" : "wasm";
  return ort;
}
let ready = runtime(self.location.hash !== "#wasm");

function session(part) {
  if (!sessions.has(part)) {
    const made = ready.then(async () => {
      const { parts } = await model;
      const on = (providers) => ort.InferenceSession.create(parts[part], { executionProviders: providers });
      return on(part === "decoder" || backend === "wasm" ? ["wasm"] : ["webgpu", "wasm"]);
    });
    sessions.set(part, made);
  }
  return sessions.get(part);
}

const tensor = (type, data, dims) => new ort.Tensor(type, data, dims);
const pair = (...values) => tensor("int64", BigInt64Array.from(values, BigInt), [values.length]);
const breathe = () => new Promise((go) => setTimeout(go)); // lets messages in

function pixels(top, left, bottom, right) {
  const { data, width } = picture, h = bottom - top, w = right - left, out = new Float32Array(3 * h * w);
  for (let y = 0, at = 0; y < h; y++) {
    for (let x = 0, from = 4 * ((top + y) * width + left); x < w; x++, at++, from += 4) {
      for (let c = 0; c < 3; c++) out[c * h * w + at] = data[from + c] / 255;
    }
  }
  return tensor("float32", out, [1, 3, h, w]);
}

// The features of tile (row, column) of a body: { data, channels, top, left, h, w }.
async function tile(part, row, column) {
  const key = `${part} ${row} ${column}`;
  if (tiles.has(key)) {
    const found = tiles.get(key);
    tiles.delete(key); // to the end: the first one is forgotten first
    tiles.set(key, found);
    return found;
  }
  const { halo } = await model, { width, height, side } = picture;
  const top = row * side, left = column * side, bottom = Math.min(height, top + side), right = Math.min(width, left + side);
  const outer = [Math.max(0, top - halo), Math.max(0, left - halo), Math.min(height, bottom + halo), Math.min(width, right + halo)];
  const running = await session(part);
  const { features } = await running.run({ image: pixels(...outer) });
  const [, channels, oh, ow] = features.dims, h = bottom - top, w = right - left;
  let data = features.data;
  if (oh !== h || ow !== w) {
    const whole = data;
    data = new Float32Array(channels * h * w);
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < h; y++) {
        const from = (c * oh + y + top - outer[0]) * ow + left - outer[1];
        data.set(whole.subarray(from, from + w), (c * h + y) * w);
      }
    }
  }
  const made = { data, channels, top, left, h, w };
  tiles.set(key, made);
  let bytes = 0;
  for (const each of tiles.values()) bytes += each.data.byteLength;
  for (const [old, each] of tiles) {
    if (bytes <= KEPT || old === key) break;
    tiles.delete(old);
    bytes -= each.data.byteLength;
  }
  return made;
}

// Features of a box of the picture: channels of every body, zeros where it does not count at this scale.
async function features(scale, top, left, bottom, right, isNewest, told) {
  const { bodies } = await model, h = bottom - top, w = right - left, { side } = picture;
  const total = bodies.reduce((sum, each) => sum + each.channels, 0), out = new Float32Array(total * h * w);
  let first = 0;
  for (const { part, channels, above, below } of bodies) {
    if ((above === null || scale > above) && (below === null || scale < below)) {
      for (let row = Math.floor(top / side); row * side < bottom; row++) {
        for (let column = Math.floor(left / side); column * side < right; column++) {
          const known = tiles.has(`${part} ${row} ${column}`);
          const from = await tile(part, row, column);
          if (!known) { told(); await breathe(); }
          if (!isNewest()) return null;
          const t = Math.max(top, from.top), b = Math.min(bottom, from.top + from.h);
          const l = Math.max(left, from.left), r = Math.min(right, from.left + from.w);
          for (let c = 0; c < channels; c++) {
            for (let y = t; y < b; y++) {
              const at = (c * from.h + y - from.top) * from.w + l - from.left;
              out.set(from.data.subarray(at, at + r - l), ((first + c) * h + y - top) * w + l - left);
            }
          }
        }
      }
    }
    first += channels;
  }
  return tensor("float32", out, [1, total, h, w]);
}

async function render({ id, size, box }) {
  const started = performance.now(), { decoderHalo } = await model, { width, height } = picture;
  const isNewest = () => id === newest;
  const scale = Math.max(size[0] / height, size[1] / width), lr = [height, width];
  const running = await session("decoder");
  const blocks = [];
  for (let top = box[0]; top < box[2]; top += BLOCK) {
    for (let left = box[1]; left < box[3]; left += BLOCK) blocks.push([top, left, Math.min(top + BLOCK, box[2]), Math.min(left + BLOCK, box[3])]);
  }
  const middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
  const far = ([t, l, b, r]) => Math.hypot((t + b) / 2 - middle[0], (l + r) / 2 - middle[1]);
  blocks.sort((a, b) => far(a) - far(b));
  let done = 0;
  for (const block of blocks) {
    await breathe();
    if (!isNewest()) return;
    const near = [0, 1, 2, 3].map((i) => {
      const axis = i % 2, at = ((block[i] + (i < 2 ? 0.5 : -0.5)) * lr[axis]) / size[axis];
      return i < 2 ? Math.max(0, Math.floor(at) - decoderHalo - 1) : Math.min(lr[axis], Math.floor(at) + decoderHalo + 2);
    });
    const told = () => postMessage({ type: "progress", id, share: done / blocks.length });
    const feat = await features(scale, ...near, isNewest, told);
    if (!feat) return;
    const given = { features: feat, image: pixels(...near), whole: pair(height, width), corner: pair(near[0], near[1]), size: pair(...size), box: pair(...block) };
    const { sr } = await running.run(Object.fromEntries(running.inputNames.map((name) => [name, given[name]])));
    const [, , h, w] = sr.dims, out = new Uint8ClampedArray(4 * h * w).fill(255);
    for (let c = 0; c < 3; c++) for (let i = 0; i < h * w; i++) out[4 * i + c] = sr.data[c * h * w + i] * 255; // rounds half to even
    done++;
    postMessage({ type: "block", id, box: block, pixels: out, share: done / blocks.length }, [out.buffer]);
  }
  postMessage({ type: "done", id, seconds: (performance.now() - started) / 1000, backend, threads: ort.env.wasm.numThreads });
}

onmessage = async ({ data }) => {
  try {
    if (data.type === "picture") {
      tiles.clear();
      const { multiple } = await model;
      const whole = data.width * data.height <= WHOLE;
      const side = whole ? Math.max(data.width, data.height) : Math.ceil(TILE / multiple) * multiple;
      picture = { ...data, side };
    } else {
      newest = data.id;
      if (data.type === "render") {
        await render(data).catch((error) => {
          if (backend !== "webgpu") throw error;
          sessions.clear(); // what the graphics processor refuses the other one does
          ready = runtime(false);
          return render(data);
        });
      }
    }
  } catch (error) {
    postMessage({ type: "failed", message: String(error?.message ?? error) });
  }
};
