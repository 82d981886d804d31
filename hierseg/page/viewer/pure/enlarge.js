// A map at another size. Each pixel goes to the number with the largest part in its bilinear mean, so that edges stay
// smooth where taking the nearest would make stairs. Sizes are [width, height].

export function enlarge(map, [width, height], [toWidth, toHeight]) {
  if (toWidth === width && toHeight === height) return map;
  const columns = neighbours(toWidth, width);
  const rows = neighbours(toHeight, height);
  const result = new Uint8Array(toWidth * toHeight);
  let pixel = 0;
  for (let row = 0; row < toHeight; row++) {
    const above = rows.first[row] * width;
    const below = rows.second[row] * width;
    const down = rows.weight[row];
    for (let column = 0; column < toWidth; column++, pixel++) {
      const left = columns.first[column];
      const right = columns.second[column];
      const first = map[above + left];
      result[pixel] = first;
      if (first === map[above + right] && first === map[below + left] && first === map[below + right]) continue;
      const four = [first, map[above + right], map[below + left], map[below + right]];
      const across = columns.weight[column];
      const weights = [(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down];
      const parts = four.map((one) => weights.reduce((sum, weight, index) => sum + (four[index] === one) * weight, 0));
      result[pixel] = four[parts.indexOf(Math.max(...parts))];
    }
  }
  return result;
}

// For each pixel along an enlarged axis: the two of the original between whose middles it lies, and the second's weight.
function neighbours(to, from) {
  const first = new Int32Array(to);
  const second = new Int32Array(to);
  const weight = new Float64Array(to);
  for (let place = 0; place < to; place++) {
    const at = Math.min(Math.max(((place + 0.5) * from) / to - 0.5, 0), from - 1);
    first[place] = Math.floor(at);
    second[place] = Math.min(first[place] + 1, from - 1);
    weight[place] = at - first[place];
  }
  return { first, second, weight };
}
