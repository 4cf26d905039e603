/** Growing and shrinking a mask by a distance, exactly, in time that does not depend on the distance. */

const INSIDE = 127;

/**
 * Move the edge of the alpha channel outwards by `radius` pixels (inwards if negative), in place, with a smooth edge.
 * @param {ImageData} image
 * @param {number} radius
 */
export function grow({ data, width, height }, radius) {
  const grows = radius > 0;
  const reach = Math.abs(radius);
  const area = affected(data, width, height, Math.ceil(grows ? reach : 0) + 1);
  const place = (/** @type {number} */ x, /** @type {number} */ y) => 4 * ((area.y + y) * width + area.x + x) + 3;
  const squared = squaredDistances(area.width, area.height, (x, y) => data[place(x, y)] > INSIDE === grows);
  for (let y = 0, i = 0; y < area.height; y++) {
    for (let x = 0; x < area.width; x++, i++) {
      const covered = Math.min(1, Math.max(0, reach + 0.5 - Math.sqrt(squared[i])));
      data[place(x, y)] = 255 * (grows ? covered : 1 - covered);
    }
  }
}

/**
 * The bounding rectangle of the mask with a margin: pixels outside it cannot change.
 * @param {Uint8ClampedArray} data
 * @param {number} width
 * @param {number} height
 * @param {number} margin
 */
function affected(data, width, height, margin) {
  let [left, right, top, bottom] = [width, 0, height, 0];
  for (let y = 0, i = 3; y < height; y++) {
    for (let x = 0; x < width; x++, i += 4) {
      if (data[i] <= INSIDE) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  const x = Math.max(0, left - margin);
  const y = Math.max(0, top - margin);
  const size = (/** @type {number} */ from, /** @type {number} */ to, /** @type {number} */ all) =>
    Math.max(0, Math.min(all, to + margin + 1) - from);
  return { x, y, width: size(x, right, width), height: size(y, bottom, height) };
}

/**
 * The squared distance of every pixel to the nearest seed: columns first, then the lower envelope of parabolas per row
 * (Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, 2012).
 * @param {number} width
 * @param {number} height
 * @param {(x: number, y: number) => boolean} isSeed
 */
function squaredDistances(width, height, isSeed) {
  const far = width + height;
  const squared = new Float32Array(width * height);
  for (let x = 0; x < width; x++) squareColumn(squared, x, width, height, far, isSeed);
  const row = new Float32Array(width);
  const roots = new Int32Array(width);
  const starts = new Float32Array(width + 1);
  for (let y = 0; y < height; y++) envelope(squared.subarray(y * width, (y + 1) * width), row, roots, starts);
  return squared;
}

/**
 * @param {Float32Array} squared
 * @param {number} x
 * @param {number} width
 * @param {number} height
 * @param {number} far
 * @param {(x: number, y: number) => boolean} isSeed
 */
function squareColumn(squared, x, width, height, far, isSeed) {
  let distance = far;
  for (let y = 0, i = x; y < height; y++, i += width) {
    distance = isSeed(x, y) ? 0 : Math.min(far, distance + 1);
    squared[i] = distance;
  }
  distance = far;
  for (let y = height - 1, i = x + y * width; y >= 0; y--, i -= width) {
    distance = Math.min(squared[i], distance + 1);
    squared[i] = distance * distance;
  }
}

/**
 * Replace f(x) by the minimum over u of (x - u)^2 + f(u).
 * @param {Float32Array} values
 * @param {Float32Array} copy
 * @param {Int32Array} roots
 * @param {Float32Array} starts
 */
function envelope(values, copy, roots, starts) {
  copy.set(values);
  let last = 0;
  roots[0] = 0;
  starts[0] = -Infinity;
  starts[1] = Infinity;
  for (let x = 1; x < copy.length; x++) {
    let start = meeting(copy, roots[last], x);
    while (start <= starts[last]) start = meeting(copy, roots[--last], x);
    roots[++last] = x;
    starts[last] = start;
    starts[last + 1] = Infinity;
  }
  for (let x = 0, k = 0; x < copy.length; x++) {
    while (starts[k + 1] < x) k++;
    values[x] = (x - roots[k]) ** 2 + copy[roots[k]];
  }
}

/**
 * The position where the parabola at `v` becomes lower than the parabola at `u`.
 * @param {Float32Array} f
 * @param {number} u
 * @param {number} v
 */
function meeting(f, u, v) {
  return (f[v] + v * v - f[u] - u * u) / (2 * (v - u));
}
