/* The page "Try it": first the library in small, which tests/test_explorer.py compares with it, then the page. */
"use strict";
const noisysegExplorer = (() => {
const SIDE = 96, BLOBS = 64;

// Masks as lengths of runs, where a row differs from the one above: reproduction.chapters.explorer.runs.
const SHAPES = {
  // <shapes>
  "square with a hole": "1hw 1k 189 n 1op n 15k 1k 1f8",
  "star": "1db 2 7x 1 2 1 7v 1 4 1 7t 1 6 1 7r 1 8 1 7p 1 a 1 7n 1 c 1 7l 1 e 1 1k o g o w 1 1q 1 x 1 1o 1 z 2 1k 2 12 1 1i 1 15 2 1e 2 18 1 1c 1 1b 1 1a 1 1d 2 16 2 1g 1 14 1 1j 1 12 1 1l 2 y 2 1o 1 w 1 1r 1 u 1 1t 2 q 2 77 1 q 1 9v 1 s 1 75 1 e 2 e 1 26 1 2 1 2j 1 4 1 24 1 b 2 6 2 b 1 21 1 a 1 2a 2 c 2 1y 1 8 1 g 1 8 1 1w 1 i 1 22 2 k 2 1t 1 5 1 o 1 5 1 1r 1 q 1 1u 2 s 2 1o 1 2 1 w 1 2 1 1l 2 y 2 1l 1 12 1 1a4",
  "ring": "1an 2 2f 7 2 7 25 3 g 3 20 2 m 2 1w 2 q 2 1s 2 u 2 1p 1 y 1 1m 2 10 1 1k 1 13 1 1i 1 15 2 1f 1 2m 1 h b h 1 1c 1 f 3 b 3 f 1 1p 2 h 2 e 1 19 1 d 1 l 2 d 1 17 1 d 1 o 1 1x 1 q 1 c 1 15 1 c 1 s 1 1t 1 u 1 b 1 13 1 b 1 w 1 1p 1 19 1 2c 1 1c 1 a 1 3o 1 a 1 1a 1 50 1 1d 1 47 1 6q 1 5b 1 3w 1 51 1 41 1 1k 1 40 1 10 1 a 1 10 1 4b 1 y 1 a 1 12 1 18 1 1q 1 v 1 b 1 14 1 b 1 t 1 1u 1 r 1 c 1 16 1 c 1 p 1 1y 2 m 1 d 1 18 1 e 2 i 2 d 1 1a 1 f 2 e 2 1r 1 g 4 6 4 g 1 1d 1 j 6 j 1 1f 1 16 1 1h 1 14 1 1j 1 12 1 1l 1 z 2 1n 2 w 1 1r 2 s 2 1u 2 o 2 1y 3 i 3 23 4 a 4 2a a 17v",
  "L": "19w l 31c z 1ig 1k 178",
  "thin cross": "1al 6 21q s 6 s ea s 6 s 21q 6 17x",
  "slit disc": "1af 5 8 4 24 3 h 3 1z 2 n 2 1v 2 r 2 1s 1 v 2 1o 2 y 1 1m 1 11 2 1j 1 14 1 1h 1 16 1 1f 1 18 1 1d 1 1a 1 1b 1 40 1 19 1 1e 1 17 1 44 1 15 1 46 1 13 1 48 1 3p 1 4a 1 6b 1 cc 1 4d 8 q 1 8y 1 9n 1 10 1 6x 1 12 1 47 1 14 1 45 1 16 1 2o 1 1e 1 2m 1 1a 1 2o 1 1a 1 1d 1 18 1 1f 1 16 1 1h 1 14 1 1j 1 11 2 1l 2 y 1 1p 1 v 2 1r 2 r 2 1v 2 n 2 1z 3 h 3 24 5 7 5 2c 7 1al",
  "three bars": "1a2 a d 5 e 2 4k4 a d 5 e 2 17e",
  "crescent": "1aq a 2a 4 a 4 23 3 i 3 1y 2 o 2 1u 2 s 2 1r 1 q 6 1p 2 n 4 1u 1 m 3 1x 1 m 1 1z 1 l 2 1z 1 k 2 20 1 k 1 21 1 k 1 2m 1 22 1 j 1 22 1 37 1 22 1 j 1 4q 1 j 1 5a 1 23 1 5u 1 7f 1 8i 1 5b 1 4s 1 b7 1 24 1 5v 1 24 1 37 1 24 1 37 1 24 1 j 1 2o 1 23 1 k 1 23 1 k 1 2o 1 22 1 l 1 22 1 l 1 22 1 l 2 21 1 m 2 20 2 m 3 1z 1 o a 1q 2 u 2 1s 2 q 2 1w 2 m 2 20 3 g 3 25 7 2 7 2f 2 17s",
  "comb": "19t 8 a 8 a 8 a 8 3qi a 8 a 8 a ru 1q 175",
  "kidney phantom": "129 9 2d 2 9 3 29 1 e 1 27 1 g 2 2o 1 23 1 k 2 2o 1 2o 1 1y 1 p 1 2o 1 2o 1 2o 1 5c 1 2o 1 5c 1 5c 1 2o 1 5c 1 4c 1 z 1 5c 1 4b 1 10 1 80 1 4a 1 6d 1 6y 1 80 1 10 1 6z 1 80 1 5c 1 x 1 72 1 3j 1 1s 1 5c 1 s 1 1v 1 5c 1 p 1 1y 1 2o 1 2o 1 l 1 22 1 j 1 24 1 h 1 26 1 2o 2 c 2 2a 1 a 1 2d 2 6 2 2g 6 zr",
  "lung nodule 1": "2ev 3 2k 1 3 1 56 1 5 1 80 1 53 1 7 1 d2 1 5a 1 2k 3 2b a 30 1 20 1 l 1 2m 1 2m 1 2m 1 23 1 i 1 5a 1 2f 2 2c 1 8 1 7 1 2e 1 3 1 3 1 28 1 4 2 6 2 2c 2 7 1 2c 2 2ex",
  "lung nodule 2": "23y 4 2j 1 4 1 2h 1 6 1 2e 2 8 1 2o 1 2b 1 c 2 2o 1 27 1 g 2 24 1 j 1 22 1 l 1 20 1 n 1 1y 1 2l 2 2l 1 5b 1 2o 1 2o 3 n 1 20 2 j 2 23 2 f 2 27 1 d 1 2a 1 b 1 2c 1 9 1 2e 1 7 1 5a 1 2g 1 5a 1 6 1 53 1 5a 1 5a 1 2m 1 2m 1 2m 1 c 1 29 1 2p 5 3 1 2d 2 5 3 1 4 218",
  "lung nodule 3": "1yr 4 2j 1 4 1 2h 1 6 1 22 5 h 1 2o 1 25 1 7 1 29 1 6 1 4 2 b 1 26 1 1 2 2l 1 b3 1 4m 1 3b 1 4n 1 im 1 5b 1 3c 1 an 1 1z 1 m 1 2n 1 4p 1 m 1 21 b c 1 2b 2 b 3 2a 2 2o 1 5m 1 2d 5 4 1 2j 2 2o 2 1vn",
  // </shapes>
};
const decode = (runs) => {
  const label = new Uint8Array(SIDE * SIDE);
  let place = 0;
  runs.split(" ").forEach((run, k) => {
    const end = place + parseInt(run, 36);
    if (k % 2) label.fill(1, place, end);
    place = end;
  });
  for (let i = SIDE; i < label.length; i++) label[i] ^= label[i - SIDE];
  return label;
};

const sum = (x) => x.reduce((total, value) => total + value, 0);

const erf = (x) => { // x >= 0: a series of positive terms
  if (x > 6) return 1;
  let term = x, total = x;
  for (let n = 1; term > 1e-18 * total; n++) total += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * total;
};
const erfc = (x) => { // x >= 0: from 2 on a continued fraction
  if (x < 2) return 1 - erf(x);
  let tail = x;
  for (let n = 90; n > 0; n--) tail = x + n / 2 / tail;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / tail;
};

// Probabilities of a displacement by 0, 1, ... pixels: noisyseg._core.voxels.voxel_weights.
const voxelWeights = (size, s) => {
  if (s === 0) return [1];
  const tail = (d) => erfc((d + 0.5) / (s * Math.SQRT2)) / 2;
  const weights = [erf(0.5 / (s * Math.SQRT2))];
  for (let d = 0, near = tail(0); d + 1 < size; d++) {
    const far = tail(d + 1);
    if (near - far < 1e-17) break;
    weights.push(near - far);
    near = far;
  }
  return weights;
};

// GaussianDeformation(a).marginal(label): both axes alike, 0 outside the image.
const marginal = (label, size, a) => {
  const weights = voxelWeights(size, a * size), reach = weights.length - 1;
  const rows = new Float64Array(size * size), m = new Float64Array(size * size);
  for (let i = 0; i < size; i++)
    for (let k = Math.max(0, i - reach); k <= Math.min(size - 1, i + reach); k++) {
      const w = weights[Math.abs(i - k)];
      for (let j = 0; j < size; j++) if (label[k * size + j]) rows[i * size + j] += w;
    }
  for (let i = 0; i < size; i++) {
    const line = rows.subarray(i * size, (i + 1) * size);
    if (line.every((x) => x === 0)) continue;
    for (let j = 0; j < size; j++) {
      let total = 0;
      for (let k = Math.max(0, j - reach); k <= Math.min(size - 1, j + reach); k++) total += weights[Math.abs(j - k)] * line[k];
      m[i * size + j] = Math.min(total, 1);
    }
  }
  return m;
};

// dice_threshold: Newton's steps from below.
const diceThreshold = (m) => {
  const v = sum(m);
  if (v === 0) return 0.5;
  for (let t = 0; ;) {
    let inside = 0, count = 0;
    for (const x of m) if (x >= t && x > 0) { inside += x; count++; }
    const next = inside / (count + v);
    if (next <= t) return Math.min(t, 0.5);
    t = next;
  }
};
const maskAt = (m, u) => Uint8Array.from(m, (x) => (x >= u ? 1 : 0));
const dice = (s, m) => {
  let inside = 0, both = 0;
  for (let i = 0; i < m.length; i++) { inside += s[i] * m[i]; both += s[i] + m[i]; }
  return both ? (2 * inside) / both : 1;
};
// Dice of {m >= u} for falling u.
const diceCurve = (m, us) => {
  const sorted = Float64Array.from(m).sort().reverse(), v = sum(m);
  let count = 0, inside = 0;
  return us.map((u) => {
    while (count < sorted.length && sorted[count] >= u) inside += sorted[count++];
    return count + v ? (2 * inside) / (count + v) : 1;
  });
};
// kappa and D* of a marginal with so many voxels of each level.
const agreement = (levels, counts) => {
  const order = levels.map((x, i) => [x, counts[i]]).sort((x, y) => y[0] - x[0]);
  const v = sum(order.map(([x, n]) => x * n));
  if (v === 0) return {kappa: 1, best: 1};
  let inside = 0, size = 0, best = 0;
  for (const [x, n] of order) {
    inside += x * n;
    size += n;
    best = Math.max(best, (2 * inside) / (size + v));
  }
  return {kappa: sum(order.map(([x, n]) => x * x * n)) / v, best};
};

// Random numbers from a seed, and normal ones.
const randoms = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
const normals = (count, seed) => {
  const random = randoms(seed), z = new Float64Array(count);
  for (let i = 0; i < count; i += 2) {
    const r = Math.sqrt(-2 * Math.log(1 - random())), angle = 2 * Math.PI * random();
    z[i] = r * Math.cos(angle);
    if (i + 1 < count) z[i + 1] = r * Math.sin(angle);
  }
  return z;
};
// A thin factor of the covariance exp(-d^2 / (2 b^2)) along one axis: fields.kronecker_factor.
const factor = (size, b) => {
  const left = new Float64Array(size).fill(1), columns = [];
  for (;;) {
    const pivot = left.indexOf(Math.max(...left));
    if (left[pivot] < 1e-7 || columns.length === size) break;
    const column = Float64Array.from(left, (_, i) => Math.exp(-(((i - pivot) / size) ** 2) / (2 * b * b)));
    for (const c of columns) for (let i = 0; i < size; i++) column[i] -= c[pivot] * c[i];
    const scale = Math.sqrt(left[pivot]);
    for (let i = 0; i < size; i++) left[i] = Math.max(0, left[i] - (column[i] /= scale) ** 2);
    left[pivot] = 0;
    columns.push(column);
  }
  for (let i = 0; i < size; i++) {
    const norm = Math.sqrt(sum(columns.map((c) => c[i] * c[i])));
    columns.forEach((c) => { c[i] /= norm; });
  }
  return columns;
};
// A noisy label: GaussianDeformation(a, b).sample, with its own random numbers.
const sample = (label, size, a, columns, seed) => {
  const rank = columns.length, s = a * size, fields = [];
  for (let axis = 0; axis < 2; axis++) {
    const z = normals(rank * rank, 2 * seed + axis), half = new Float64Array(rank * size), field = new Float64Array(size * size);
    for (let p = 0; p < rank; p++)
      for (let q = 0; q < rank; q++) for (let j = 0; j < size; j++) half[p * size + j] += z[p * rank + q] * columns[q][j];
    for (let p = 0; p < rank; p++)
      for (let i = 0; i < size; i++) {
        const c = columns[p][i];
        for (let j = 0; j < size; j++) field[i * size + j] += c * half[p * size + j];
      }
    fields.push(field);
  }
  const noisy = new Uint8Array(size * size);
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) {
      const at = i * size + j, row = Math.floor(i + 0.5 + s * fields[0][at]), column = Math.floor(j + 0.5 + s * fields[1][at]);
      if (row >= 0 && row < size && column >= 0 && column < size) noisy[at] = label[row * size + column];
    }
  return noisy;
};

// Two voters, one mask within the other: B has the share q of the votes. The masks are sets of the first x voxels.
const twoVoters = (q, a, b) => {
  const small = Math.min(a, b), large = Math.max(a, b), rest = a > b ? 1 - q : q; // share of the larger mask
  const v = small + rest * (large - small);
  const marginalDice = (x) => (2 * (Math.min(x, small) + rest * Math.max(0, Math.min(x, large) - small))) / (x + v);
  const against = (x, size) => (2 * Math.min(x, size)) / (x + size);
  const meanDice = (x) => (1 - q) * against(x, a) + q * against(x, b);
  let best = 1;
  for (let x = 2; x <= large; x++) if (meanDice(x) > meanDice(best) + 1e-13) best = x;
  const chosen = marginalDice(large) >= marginalDice(small) ? large : small;
  return {v, large, chosen, best, t: marginalDice(chosen) / 2, marginalDice, meanDice, lost: meanDice(best) - meanDice(chosen)};
};

// A softmax of a background and two discs; the same as reproduction.chapters.explorer.blobs.
const softmaxBlobs = (distance, radius, softness, doubt) => {
  const maps = [0, 1, 2].map(() => new Float64Array(BLOBS * BLOBS));
  for (let i = 0; i < BLOBS; i++)
    for (let j = 0; j < BLOBS; j++) {
      const y = (i + 0.5) / BLOBS - 0.5, x = (j + 0.5) / BLOBS - 0.5;
      const logits = [0, (0.25 - Math.hypot(y, x + distance / 2)) / softness, (radius - Math.hypot(y, x - distance / 2)) / softness - doubt];
      const top = Math.max(...logits), powers = logits.map((z) => Math.exp(z - top)), total = sum(powers);
      powers.forEach((p, k) => { maps[k][i * BLOBS + j] = p / total; });
    }
  return maps;
};
const argmaxLabels = (maps) => Uint8Array.from(maps[0], (_, i) => maps.reduce((best, x, k) => (x[i] > maps[best][i] ? k : best), 0));
const thresholdLabels = (maps) => { // voxels in several masks go to the larger probability
  const t = maps.map((x, k) => (k ? diceThreshold(x) : 2));
  let both = 0;
  const labels = Uint8Array.from(maps[0], (_, i) => {
    let label = 0, inside = 0;
    for (let k = 1; k < maps.length; k++)
      if (maps[k][i] >= t[k]) { inside++; if (!label || maps[k][i] > maps[label][i]) label = k; }
    both += inside > 1 ? 1 : 0;
    return label;
  });
  return {labels, both, t};
};
const meanDice = (labels, maps) =>
  sum(maps.slice(1).map((m, k) => dice(Uint8Array.from(labels, (x) => (x === k + 1 ? 1 : 0)), m))) / (maps.length - 1);

// optimal_labels with the background 0 and equal weights: every voxel to the class that it is worth most to, in steps.
const SHARES = [...Array(34).keys()].map((k) => 2 ** (k - 40)).concat([...Array(64).keys()].map((k) => (k + 1) / 64));
const optimalLabels = (probabilities) => {
  const maps = probabilities.slice(1), n = maps.length, soft = maps.map(sum);
  const t = maps.map(diceThreshold), bound = (2 * sum(t)) / n;
  let size = maps.map((m, k) => sum(maskAt(m, t[k]))), inside = t.map((x, k) => x * (size[k] + soft[k]));
  let best = -1, labels = null;
  const score = (x, y) => (2 / n) * sum(x.map((value, k) => value / (y[k] + soft[k])));
  for (let step = 0; step < 60; step++) {
    const half = inside.map((x, k) => x / (size[k] + soft[k])), scale = size.map((x, k) => 1 / n / (x + soft[k]));
    const moved = new Uint8Array(maps[0].length), newInside = maps.map(() => 0), newSize = maps.map(() => 0);
    for (let i = 0; i < moved.length; i++) {
      let most = -1e-300;
      for (let k = 0; k < n; k++) {
        const worth = (maps[k][i] - half[k]) * scale[k];
        if (worth > most) { most = worth; moved[i] = k + 1; }
      }
      if (moved[i]) { newInside[moved[i] - 1] += maps[moved[i] - 1][i]; newSize[moved[i] - 1]++; }
    }
    if (score(newInside, newSize) > best) { best = score(newInside, newSize); labels = moved; }
    if (step === 0) { inside = newInside; size = newSize; continue; }
    const part = (x, y, share) => x.map((value, k) => value + share * (y[k] - value));
    const tried = SHARES.map((share) => [part(inside, newInside, share), part(size, newSize, share)]);
    const scores = tried.map(([x, y]) => score(x, y)), k = scores.indexOf(Math.max(...scores));
    if (scores[k] < score(inside, size) + 1e-9) break;
    [inside, size] = tried[k];
  }
  return {labels, mean: best, gap: Math.max(0, bound - best)};
};

// A random marginal: levels and how many voxels have each.
const randomMarginal = (random) => {
  const kind = random();
  if (kind < 0.2) { // attains the lower bound
    const v = random();
    return [[1, v / (1 + v)], [v * v, 1 - v * v]];
  }
  if (kind < 0.4) { // comes near the upper one
    const mu = random(), v = random() ** 6 / 2;
    return [[mu, (v * (1 - mu)) / (1 - v)], [v, 1 - v]];
  }
  const power = 0.1 + 6 * random() ** 2, most = random() ** 0.5;
  const levels = Array.from({length: 16}, () => most * random() ** power);
  return [levels, levels.map(() => -Math.log(1 - random()))];
};

return {SIDE, BLOBS, SHAPES, decode, sum, marginal, diceThreshold, maskAt, dice, diceCurve, agreement, randoms, factor, sample,
  twoVoters, softmaxBlobs, argmaxLabels, thresholdLabels, meanDice, optimalLabels, randomMarginal};
})();

if (typeof module !== "undefined") module.exports = noisysegExplorer;
else if (typeof document !== "undefined") (() => {
const X = noisysegExplorer, {SIDE} = X;
const short = (x, digits = 3) => x.toFixed(digits).replace(/^(-?)0\./, "$1.");
const tenth = (x) => (x % 1 ? short(x, 1) : `${x}`);
const whole = (x) => Math.round(x).toLocaleString("en");
const pixels = (x) => `${whole(x)} px`;

const unit = [0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]];

const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  node.append(...children);
  return node;
};
const swatch = (meaning) => el("span", {class: `ex-swatch ex-${meaning}`, "aria-hidden": "true"});

// A slider that says its value; `act` is called with every step.
const slider = (id, name, [min, max, step, value], show, act) => {
  const input = el("input", {type: "range", id: `ex-${id}`, min, max, step, value});
  const shown = el("span", {class: "ex-value", "aria-hidden": "true"});
  const refresh = () => {
    shown.textContent = show(+input.value);
    input.setAttribute("aria-valuetext", show(+input.value));
  };
  input.addEventListener("input", () => { refresh(); act(); });
  refresh();
  const box = el("div", {class: "ex-slider"}, el("label", {for: input.id}, ...[name].flat()), shown, input);
  return {box, get value() { return +input.value; }, set value(x) { input.value = x; refresh(); }};
};
const button = (name, act) => {
  const node = el("button", {type: "button", class: "ex-button"}, name);
  node.addEventListener("click", act);
  return node;
};
const italic = (letter) => el("i", {}, letter);

// A square picture with a title above and a line below.
const panel = (title, meaning) => {
  const canvas = el("canvas", {width: 384, height: 384, role: "img"});
  const below = el("div", {class: "ex-below"});
  const head = el("div", {class: "ex-title"}, ...(meaning ? [swatch(meaning)] : []), ...[title].flat());
  return {box: el("div", {class: "ex-panel"}, head, canvas, below), canvas, below, context: canvas.getContext("2d")};
};

// Colours are those of the style sheet, in both themes.
let colours = {}, greys = [];
const readColours = () => {
  const style = getComputedStyle(document.querySelector(".explorer"));
  ["zero", "one", "half", "dice", "yours", "best", "first", "second"].forEach((name) => {
    const hex = style.getPropertyValue(`--ex-${name}`).trim();
    colours[name] = [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));
  });
  greys = [...Array(256).keys()].map((k) => colours.zero.map((x, j) => x + (k / 255) * (colours.one[j] - x)));
};
const css = (name) => `rgb(${colours[name].join()})`;
const grey = (share) => greys[Math.round(255 * share)];

const small = document.createElement("canvas");
const raster = (context, size, colourAt) => {
  const image = new ImageData(size, size);
  for (let i = 0, p = 0; i < size * size; i++) {
    const colour = colourAt(i);
    for (let k = 0; k < 3; k++) image.data[p++] = colour[k];
    image.data[p++] = 255;
  }
  small.width = small.height = size;
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
};
// The edges between a mask and what is around it.
const outline = (context, mask, size, colour, width = 3, dashes = []) => {
  const k = context.canvas.width / size;
  context.beginPath();
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) {
      const inside = mask[i * size + j];
      if (inside !== (j + 1 < size ? mask[i * size + j + 1] : 0)) { context.moveTo((j + 1) * k, i * k); context.lineTo((j + 1) * k, (i + 1) * k); }
      if (inside !== (i + 1 < size ? mask[(i + 1) * size + j] : 0)) { context.moveTo(j * k, (i + 1) * k); context.lineTo((j + 1) * k, (i + 1) * k); }
    }
  context.setLineDash(dashes);
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
  context.setLineDash([]);
};

// A chart as an SVG, drawn anew at the width that there is: its letters keep their size.
const chart = (name) => {
  const box = el("div", {class: "ex-chart", role: "img", "aria-label": name});
  let last = null;
  const plot = (spec) => {
    last = spec;
    const width = Math.max(240, box.clientWidth), height = spec.height || 270, left = 40, right = 14, top = 40, bottom = 42;
    const x = (value) => left + ((value - spec.x[0]) / (spec.x[1] - spec.x[0])) * (width - left - right);
    const y = (value) => height - bottom - ((value - spec.y[0]) / (spec.y[1] - spec.y[0])) * (height - top - bottom);
    const path = (points) => points.map(([p, q], k) => `${k ? "L" : "M"}${x(p).toFixed(1)} ${y(q).toFixed(1)}`).join("");
    const text = (p, q, words, anchor, kind = "") => `<text x="${p}" y="${q}" text-anchor="${anchor}" class="${kind}">${words}</text>`;
    const parts = [];
    spec.x[2].forEach((at) => parts.push(`<path class="ex-grid" d="M${x(at)} ${top}V${height - bottom}"/>`, text(x(at), height - bottom + 17, spec.tick ? spec.tick(at) : tenth(at), "middle")));
    spec.y[2].forEach((at) => parts.push(`<path class="ex-grid" d="M${left} ${y(at)}H${width - right}"/>`, text(left - 7, y(at) + 4, tenth(at), "end")));
    parts.push(text(width - right, height - 4, spec.xName, "end", "ex-axis"), text(4, 12, spec.yName, "start", "ex-axis"));
    (spec.lines || []).forEach(([points, kind]) => parts.push(`<path class="ex-line ex-${kind}" d="${path(points)}"/>`));
    (spec.rules || []).forEach(([at, kind, words]) => parts.push(`<path class="ex-rule ex-${kind}" d="M${x(at)} ${top}V${height - bottom}"/>`, words ? text(x(at), top - 6, words, "middle", "ex-strong") : ""));
    (spec.words || []).forEach(([p, q, words, anchor]) => parts.push(text(x(p), y(q), words, anchor || "start", "ex-strong")));
    (spec.dots || []).forEach(([p, q, kind, r]) => parts.push(`<circle class="ex-dot ex-${kind}" cx="${x(p).toFixed(1)}" cy="${y(q).toFixed(1)}" r="${r || 5}"/>`));
    box.innerHTML = `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" aria-hidden="true">${parts.join("")}</svg>`;
    box.at = (clientX) => {
      const share = (clientX - box.getBoundingClientRect().left - left) / (width - left - right);
      return spec.x[0] + Math.min(1, Math.max(0, share)) * (spec.x[1] - spec.x[0]);
    };
  };
  new ResizeObserver(() => last && box.clientWidth && plot(last)).observe(box);
  return {box, plot};
};
// A table whose cells are set by `fill`: rows of [swatch, name].
const table = (caption, heads, rows) => {
  const cells = rows.map(() => heads.slice(1).map(() => el("td")));
  const body = rows.map(([meaning, name], k) => el("tr", {}, el("th", {scope: "row"}, swatch(meaning), ...[name].flat()), ...cells[k]));
  const head = el("tr", {}, ...heads.map((words) => el("th", {scope: "col"}, ...[words].flat())));
  const box = el("table", {class: "ex-table"}, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, ...body));
  return {box, fill: (values) => values.forEach((row, k) => row.forEach((value, j) => { if (value !== null) cells[k][j].textContent = value; }))};
};
// One sentence of what is to be seen; it is read aloud when the hand rests.
const verdict = () => {
  const shown = el("p", {class: "ex-verdict", "aria-hidden": "true"}), said = el("p", {class: "ex-said", role: "status", "aria-live": "polite"});
  let waiting = 0;
  return {box: el("div", {class: "ex-words"}, shown, said), say: (words) => {
    shown.textContent = words;
    clearTimeout(waiting);
    waiting = setTimeout(() => { said.textContent = words; }, 600);
  }};
};
// Everything is drawn once a frame at most, and the time of a step is kept for the tests.
const steps = {};
const redraws = [];
const drawer = (name, draw) => {
  let asked = false;
  const run = () => {
    asked = false;
    const start = performance.now();
    draw();
    steps[name] = performance.now() - start;
  };
  redraws.push(run);
  return () => { if (!asked) { asked = true; requestAnimationFrame(run); } };
};
const listeners = []; // of the first part's marginal

const parts = {
  shape: (root) => {
    let label = X.decode(X.SHAPES.star), seed = 1, cursor = [48, 48], pen = 0, focused = false, waiting = 0;
    const update = drawer("shape", () => draw());
    const a = slider("a", ["Noise strength ", italic("a")], [0, 0.1, 0.001, 0.04], (x) => short(x), update);
    const b = slider("b", ["Smoothness ", italic("b")], [0.04, 0.5, 0.01, 0.11], (x) => short(x, 2), update);
    const u = slider("u", [swatch("yours"), "Threshold ", italic("u")], [0.005, 1, 0.005, 0.25], (x) => short(x), update);
    const brush = slider("brush", "Brush", [1, 9, 1, 4], (x) => `${2 * x - 1} px wide`, update);
    const choice = el("select", {id: "ex-choice"}, ...Object.keys(X.SHAPES).map((name) => el("option", {value: name}, name)), el("option", {value: ""}, "your own"));
    choice.value = "star";
    choice.addEventListener("change", () => {
      label = choice.value ? X.decode(X.SHAPES[choice.value]) : new Uint8Array(SIDE * SIDE);
      update();
    });
    const board = panel("Label: draw here"), noisy = panel("A noisy label"), map = panel(["Marginal ", italic("m")]);
    const kinds = [["half", "1/2"], ["dice", italic("t")], ["yours", italic("u")]].map(([kind, at]) => [kind, [italic("m"), " ≥ ", at]]);
    const worth = kinds.map(([kind, name]) => panel(name.map((x) => (x.cloneNode ? x.cloneNode(true) : x)), kind));
    const help = el("p", {id: "ex-keys", class: "ex-help"}, "Draw with a finger or the mouse; a stroke that begins inside erases. Keys: arrows move (with Shift farther), Space is the pen, X the eraser, Escape lifts.");
    board.box.append(help);
    board.canvas.setAttribute("role", "application");
    board.canvas.setAttribute("tabindex", "0");
    board.canvas.setAttribute("aria-label", "Drawing board of 96 by 96 pixels");
    board.canvas.setAttribute("aria-describedby", "ex-keys");
    const curve = chart("Dice of the mask m ≥ u with the marginal, over the threshold u");
    const results = table("What the masks are worth", ["mask", "threshold", "pixels", "Dice D", "32 labels"], kinds);
    const sentence = verdict();

    const dab = (row, column, value) => {
      const r = brush.value - 0.5;
      for (let i = 0; i < SIDE; i++)
        for (let j = 0; j < SIDE; j++) if (Math.hypot(i - row, j - column) <= r) label[i * SIDE + j] = value;
      choice.value = "";
    };
    const stroke = ([r0, c0], [r1, c1], value) => {
      const n = Math.max(1, Math.ceil(Math.hypot(r1 - r0, c1 - c0)));
      for (let k = 0; k <= n; k++) dab(Math.round(r0 + ((r1 - r0) * k) / n), Math.round(c0 + ((c1 - c0) * k) / n), value);
    };
    const place = (event) => {
      const box = board.canvas.getBoundingClientRect();
      return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width].map((x) => Math.min(SIDE - 1, Math.max(0, Math.floor(x * SIDE))));
    };
    let value = null;
    board.canvas.addEventListener("pointerdown", (event) => {
      cursor = place(event);
      value = label[cursor[0] * SIDE + cursor[1]] ? 0 : 1;
      board.canvas.setPointerCapture(event.pointerId);
      dab(...cursor, value);
      update();
    });
    board.canvas.addEventListener("pointermove", (event) => {
      if (value === null) return;
      const to = place(event);
      stroke(cursor, to, value);
      cursor = to;
      update();
    });
    ["pointerup", "pointercancel"].forEach((name) => board.canvas.addEventListener(name, () => { value = null; }));
    ["focus", "blur"].forEach((name) => board.canvas.addEventListener(name, () => { focused = name === "focus"; pen = focused ? pen : 0; update(); }));
    board.canvas.addEventListener("keydown", (event) => {
      const moves = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
      if (moves) {
        const from = cursor, far = event.shiftKey ? 8 : 2;
        cursor = cursor.map((x, k) => Math.min(SIDE - 1, Math.max(0, x + far * moves[k])));
        if (pen) stroke(from, cursor, pen > 0 ? 1 : 0);
      } else if (event.key === " " || event.key.toLowerCase() === "x") {
        const wanted = event.key === " " ? 1 : -1;
        pen = pen === wanted ? 0 : wanted;
        if (pen) dab(...cursor, pen > 0 ? 1 : 0);
      } else if (event.key === "Escape") pen = 0;
      else return;
      event.preventDefault();
      update();
    });
    const drag = (event) => { u.value = Math.max(0.005, curve.box.at(event.clientX)); update(); };
    curve.box.addEventListener("pointerdown", (event) => { curve.box.setPointerCapture(event.pointerId); drag(event); });
    curve.box.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });

    const us = [...Array(200).keys()].map((k) => 1 - k / 200);
    let lastB = 0, columns = [];
    const draw = () => {
      const m = X.marginal(label, SIDE, a.value), t = X.diceThreshold(m), v = X.sum(m);
      const at = [0.5, t, u.value], masks = at.map((x) => X.maskAt(m, x)), scores = masks.map((s) => X.dice(s, m));
      if (b.value !== lastB) columns = X.factor(SIDE, (lastB = b.value));
      const drawn = X.sample(label, SIDE, a.value, columns, seed);
      raster(board.context, SIDE, (i) => grey(label[i] ? 0.72 : 0));
      if (focused) {
        const k = board.canvas.width / SIDE;
        board.context.beginPath();
        board.context.arc((cursor[1] + 0.5) * k, (cursor[0] + 0.5) * k, brush.value * k, 0, 7);
        board.context.lineWidth = pen ? 6 : 3;
        board.context.strokeStyle = css(pen < 0 ? "second" : "first");
        board.context.stroke();
      }
      raster(noisy.context, SIDE, (i) => grey(drawn[i] ? 0.45 : 0));
      outline(noisy.context, label, SIDE, css("one"), 2);
      raster(map.context, SIDE, (i) => grey(0.75 * m[i]));
      outline(map.context, masks[2], SIDE, css("yours"), 3, [8, 6]);
      outline(map.context, masks[0], SIDE, css("half"), 4);
      outline(map.context, masks[1], SIDE, css("dice"), 4);
      worth.forEach((one, k) => {
        raster(one.context, SIDE, (i) => (masks[k][i] ? colours[kinds[k][0]] : colours.zero));
        outline(one.context, label, SIDE, css("one"), 2);
        one.below.textContent = `D = ${short(scores[k])}`;
        one.canvas.setAttribute("aria-label", `Mask of ${pixels(X.sum(masks[k]))}, Dice ${short(scores[k])}`);
      });
      board.below.textContent = pixels(X.sum(label));
      noisy.below.textContent = pixels(X.sum(drawn));
      map.below.textContent = `v = ${v.toLocaleString("en", {maximumFractionDigits: 1})} px`;
      noisy.canvas.setAttribute("aria-label", `A noisy label of ${pixels(X.sum(drawn))}, with the outline of the label`);
      map.canvas.setAttribute("aria-label", "The marginal in grey, with the outlines of the three masks");
      results.fill(masks.map((s, k) => [short(at[k]), whole(X.sum(s)), short(scores[k], 4), null]));
      curve.plot({x: unit, y: unit, xName: "threshold u", yName: "Dice D of m ≥ u",
        lines: [[X.diceCurve(m, us).map((d, k) => [us[k], d]), "curve"]],
        rules: [[0.5, "half", Math.abs(t - 0.5) < 0.04 ? "" : "1/2"], [t, "dice", "t"], [u.value, "yours", Math.min(Math.abs(u.value - t), Math.abs(u.value - 0.5)) < 0.03 ? "" : "u"]],
        dots: [[0.5, scores[0], "half"], [u.value, scores[2], "yours"], [t, scores[1], "dice", 6]]});
      const words = focused ? ` Brush in row ${cursor[0] + 1}, column ${cursor[1] + 1}, ${["eraser down", "lifted", "pen down"][pen + 1]}.` : "";
      sentence.say(`t = ${short(t)}: there the Dice is ${short(scores[1])} and the mask has ${pixels(X.sum(masks[1]))}. At 1/2 they are ${short(scores[0])} and ${pixels(X.sum(masks[0]))}; v = ${pixels(v)} are expected.${words}`);
      listeners.forEach((tell) => tell(m));
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        const labels = [...Array(32).keys()].map((k) => X.sample(label, SIDE, a.value, columns, 1000 + k));
        results.fill(masks.map((s) => [null, null, null, short(X.sum(labels.map((l) => X.dice(s, l))) / 32, 4)]));
      }, 150);
    };
    root.append(
      el("div", {class: "ex-controls"},
        el("div", {class: "ex-slider"}, el("label", {for: "ex-choice"}, "Shape"), choice), a.box, u.box, b.box, brush.box,
        el("div", {class: "ex-buttons"}, button("New noise", () => { seed++; update(); }),
          button("Clear", () => { label = new Uint8Array(SIDE * SIDE); choice.value = ""; update(); }))),
      el("div", {class: "ex-panels ex-six"}, board.box, noisy.box, map.box, sentence.box, ...worth.map((one) => one.box)), curve.box, results.box);
  },

  sizes: (root) => {
    const update = drawer("sizes", () => draw());
    const q = slider("q", "Probability of B", [0.05, 0.95, 0.05, 0.3], (x) => `${Math.round(100 * x)} %`, update);
    const first = slider("first", [swatch("first"), "Size of A"], [1, 200, 1, 20], pixels, update);
    const second = slider("second", [swatch("second"), "Size of B"], [1, 200, 1, 160], pixels, update);
    const discs = el("div", {class: "ex-discs", role: "img"});
    const curves = chart("Dice over the volume of the mask: of the marginal, and the mean over the voters");
    const results = table("Two masks, two objectives", ["chosen by", "pixels", ["D", el("sub", {}, "m")], ["E[D", el("sub", {}, "L"), "]"]], [["dice", ["D", el("sub", {}, "m")]], ["best", ["E[D", el("sub", {}, "L"), "]"]]]);
    const sentence = verdict();
    const draw = () => {
      const a = first.value, b = second.value, found = X.twoVoters(q.value, a, b), radius = (x) => 92 * Math.sqrt(x / 200);
      const circle = (x, kind) => `<circle class="${kind}" cx="100" cy="100" r="${radius(x).toFixed(1)}"/>`;
      const filled = [[a, "ex-first"], [b, "ex-second"]].sort((x, y) => y[0] - x[0]);
      discs.innerHTML = `<svg viewBox="0 0 200 200" aria-hidden="true">${filled.map(([x, kind]) => circle(x, `ex-fill ${kind}`)).join("")}${circle(found.chosen, "ex-line ex-dice")}${circle(found.best, "ex-line ex-best")}</svg>`;
      discs.setAttribute("aria-label", `Disc of A, ${pixels(a)}, and of B, ${pixels(b)}; the Dice of the marginal chooses ${pixels(found.chosen)}, the mean Dice ${pixels(found.best)}`);
      const end = Math.max(found.large * 1.15, 10), step = [1, 2, 5, 10, 20, 50].find((x) => end / x <= 6) || 50;
      const xs = [...Array(found.large * 2).keys()].map((k) => ((k + 1) / (found.large * 2)) * end);
      curves.plot({x: [0, end, [...Array(Math.floor(end / step) + 1).keys()].map((k) => k * step)], tick: whole, y: unit, xName: "volume of the mask, px", yName: "Dice",
        lines: [[xs.map((x) => [x, found.marginalDice(x)]), "dice"], [xs.map((x) => [x, found.meanDice(x)]), "best"]],
        rules: [[a, "first", "A"], [b, "second", Math.abs(a - b) < end / 20 ? "" : "B"]],
        dots: [[found.best, found.meanDice(found.best), "best", 6], [found.chosen, found.marginalDice(found.chosen), "dice", 6]]});
      results.fill([found.chosen, found.best].map((x) => [whole(x), short(found.marginalDice(x), 4), short(found.meanDice(x), 4)]));
      sentence.say(found.chosen === found.best ? `Both objectives choose ${pixels(found.best)}.` : `The Dice of the marginal chooses ${pixels(found.chosen)}, the mean Dice ${pixels(found.best)}: the first loses ${short(found.lost)} of the mean Dice.`);
    };
    root.append(el("div", {class: "ex-controls ex-three"}, q.box, first.box, second.box), el("div", {class: "ex-side"}, discs, curves.box),
      el("p", {class: "ex-help"}, swatch("dice"), "Dice of the marginal ", swatch("best"), "mean Dice over the voters (dashed); the circles are the masks that each chooses"), sentence.box, results.box);
  },

  classes: (root) => {
    const update = drawer("classes", () => draw());
    const distance = slider("distance", "Distance", [0, 0.6, 0.01, 0.3], (x) => short(x, 2), update);
    const radius = slider("radius", [swatch("second"), "Radius of B"], [0.03, 0.25, 0.01, 0.16], (x) => short(x, 2), update);
    const softness = slider("softness", "Softness", [0.01, 0.15, 0.005, 0.05], (x) => short(x), update);
    const doubt = slider("doubt", "Doubt about B", [0, 3, 0.1, 0.8], (x) => x.toFixed(1), update);
    const soft = panel("Softmax"), argmax = panel("Argmax", "half"), cut = panel("A threshold a class", "dice"), best = panel("Best label map", "best");
    const results = table("Three label maps", ["label map", "A, px", "B, px", "mean Dice"], [["half", "argmax"], ["dice", "a threshold a class"], ["best", "best label map"]]);
    const sentence = verdict();
    const draw = () => {
      const maps = X.softmaxBlobs(distance.value, radius.value, softness.value, doubt.value), separate = X.thresholdLabels(maps), optimum = X.optimalLabels(maps);
      const found = [X.argmaxLabels(maps), separate.labels, optimum.labels], scores = found.map((labels) => X.meanDice(labels, maps));
      raster(soft.context, X.BLOBS, (i) => colours.zero.map((x, k) => maps[0][i] * x + maps[1][i] * colours.first[k] + maps[2][i] * colours.second[k]));
      soft.canvas.setAttribute("aria-label", "The probabilities of A and B as mixed colours");
      [argmax, cut, best].forEach((one, k) => {
        raster(one.context, X.BLOBS, (i) => colours[["zero", "first", "second"][found[k][i]]]);
        one.below.textContent = `mean Dice ${short(scores[k])}`;
        one.canvas.setAttribute("aria-label", `Label map with a mean Dice of ${short(scores[k])}`);
      });
      outline(cut.context, Uint8Array.from(maps[0], (_, i) => (maps[1][i] >= separate.t[1] && maps[2][i] >= separate.t[2] ? 1 : 0)), X.BLOBS, css("one"), 3);
      soft.below.textContent = "A and B mixed";
      const count = (labels, k) => whole(X.sum(Uint8Array.from(labels, (x) => (x === k ? 1 : 0))));
      results.fill(found.map((labels, k) => [count(labels, 1), count(labels, 2), short(scores[k], 4)]));
      sentence.say(`Argmax loses ${short(scores[2] - scores[0])} of the mean Dice, separate thresholds ${short(scores[2] - scores[1], 4)}; their masks share ${pixels(separate.both)}. No label map is better than the last by more than ${short(optimum.gap, 4)}.`);
    };
    root.append(el("div", {class: "ex-controls ex-four"}, distance.box, radius.box, softness.box, doubt.box), el("div", {class: "ex-panels ex-four"}, soft.box, argmax.box, cut.box, best.box), sentence.box, results.box);
  },

  agreement: (root) => {
    const update = drawer("agreement", () => draw()), random = X.randoms(7), levels = [1, 0.8, 0.6, 0.4, 0.2];
    let points = [], shape = null;
    const add = (count) => { for (let k = 0; k < count; k++) points.push(X.agreement(...X.randomMarginal(random))); update(); };
    const voxels = [40, 20, 20, 30, 60].map((value, k) => slider(`level${k}`, ["Pixels with ", italic("m"), ` = ${tenth(levels[k])}`], [0, 100, 1, value], whole, update));
    const curves = chart("Best Dice over the agreement of two raters: points between the curves kappa and its square root");
    const sentence = verdict();
    const draw = () => {
      const own = X.agreement(levels, voxels.map((one) => one.value)), k = [...Array(101).keys()].map((x) => x / 100);
      const within = points.filter((p) => p.kappa <= p.best + 1e-12 && p.best <= Math.sqrt(p.kappa) + 1e-12).length;
      curves.plot({height: 340, x: unit, y: unit, xName: "agreement κ of two raters", yName: "best Dice D*",
        lines: [[k.map((x) => [x, x]), "curve"], [k.map((x) => [x * x, x]), "curve"]],
        dots: [...points.map((p) => [p.kappa, p.best, "dice ex-faint", 3]), ...(shape ? [[shape.kappa, shape.best, "dice", 6]] : []), [own.kappa, own.best, "yours", 7]],
        words: [[0.53, 0.49, "κ"], [0.23, 0.5, "√κ", "end"]]});
      sentence.say(`Your marginal: κ = ${short(own.kappa)} ≤ D* = ${short(own.best)} ≤ √κ = ${short(Math.sqrt(own.kappa))}. ${whole(within)} of ${whole(points.length)} random marginals lie between the curves.`);
    };
    listeners.push((m) => { shape = X.agreement([...m], [...m].map(() => 1)); update(); });
    root.append(el("div", {class: "ex-controls"}, ...voxels.map((one) => one.box),
      el("div", {class: "ex-buttons"}, button("Add 100", () => add(100)), button("Remove", () => { points = []; update(); }))),
    curves.box, el("p", {class: "ex-help"}, swatch("yours"), "your marginal ", swatch("dice"), "large: the shape above; small: random marginals"), sentence.box);
    add(100);
  },
};

const start = () => {
  const places = [...document.querySelectorAll(".explorer[data-part]")];
  if (!places.length) return;
  readColours();
  places.forEach((root) => {
    parts[root.dataset.part](root);
    root.classList.add("ex-ready");
    document.querySelectorAll(`img.explorer-static[src*="explorer_${root.dataset.part}"]`).forEach((image) => { image.hidden = true; });
  });
  const all = () => redraws.forEach((run) => run());
  all();
  new MutationObserver(() => { readColours(); all(); }).observe(document.documentElement, {attributes: true, attributeFilter: ["data-theme"]});
};
X.steps = steps;
window.noisysegExplorer = X;
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
})();
