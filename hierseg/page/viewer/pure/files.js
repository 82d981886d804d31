// Files made in the browser, so that what is saved is what is seen and no photo goes back to the server.

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

// The checksum of PNG and zip.
function crc32(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CRC[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}

async function deflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const ascii = (text) => new TextEncoder().encode(text);

// An indexed PNG, 8 bits a pixel: a canvas can only write colours. PNG specification, sections 5 and 11.
export async function indexedPng(labels, width, height, palette) {
  const rows = new Uint8Array((width + 1) * height); // each row begins with its filter, 0 for none
  for (let row = 0; row < height; row++)
    rows.set(labels.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8); // bits
  header.setUint8(9, 3); // indexed
  const parts = [Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10)];
  for (const [kind, data] of [
    ["IHDR", new Uint8Array(header.buffer)],
    ["PLTE", palette],
    ["IDAT", await deflate(rows)],
    ["IEND", new Uint8Array(0)],
  ]) {
    const chunk = new Uint8Array(12 + data.length);
    const view = new DataView(chunk.buffer);
    view.setUint32(0, data.length);
    chunk.set(ascii(kind), 4);
    chunk.set(data, 8);
    view.setUint32(8 + data.length, crc32(chunk.subarray(4, 8 + data.length)));
    parts.push(chunk);
  }
  return new Blob(parts, { type: "image/png" });
}

// A zip without compression, for files that are compressed themselves. APPNOTE.TXT, sections 4.3.7 to 4.3.16.
export async function zip(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const [name, blob] of files) {
    const data = new Uint8Array(await blob.arrayBuffer()); // for its checksum alone: the browser may keep blobs on a disk
    const title = ascii(name);
    const common = new DataView(new ArrayBuffer(26)); // what the file's header and its line in the directory share
    common.setUint16(0, 20, true); // version 2.0
    common.setUint16(2, 0x0800, true); // names are UTF-8
    common.setUint16(8, 0x21, true); // 1 January 1980: files do not say when they were made
    common.setUint32(10, crc32(data), true);
    common.setUint32(14, data.length, true);
    common.setUint32(18, data.length, true);
    common.setUint16(22, title.length, true);
    const shared = new Uint8Array(common.buffer);
    parts.push(Uint8Array.of(80, 75, 3, 4), shared, title, blob);
    const entry = new DataView(new ArrayBuffer(14));
    entry.setUint32(10, offset, true);
    directory.push(Uint8Array.of(80, 75, 1, 2, 20, 0), shared, new Uint8Array(entry.buffer), title);
    offset += 30 + title.length + data.length;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, files.length, true);
  end.setUint16(10, files.length, true);
  end.setUint32(12, length, true);
  end.setUint32(16, offset, true);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

export const jsonBlob = (value) => new Blob([`${JSON.stringify(value, null, 1)}\n`], { type: "application/json" });

// Rows of values as a table. RFC 4180.
export const csvOf = (rows) => rows.map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");

const csvCell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

// A file's name as every system can hold it, as `portable_name` of files.py.
export function safeName(name) {
  const bytes = ascii(name.replace(/[\p{Cc}\p{Cs}<>:"/\\|?*]/gu, "_")).slice(0, 200);
  const held = new TextDecoder().decode(bytes).replace(/\ufffd+$/, "").replace(/[. ]+$/, "");
  return held.replace(/^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)/i, "$1_") || "_";
}
