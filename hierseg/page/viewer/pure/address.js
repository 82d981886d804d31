// A state as the words of an address, such as "level=body&view=slider", and back.
//
// A table says what is kept: by its key, how a state is written as a word, and which changes of the state a word stands
// for in a scene, none where it stands for nothing.

// One of the names that a scene offers.
export const choice = (name, offered) => ({
  write: (state) => String(state[name]),
  read: (word, scene) => (offered(scene).includes(word) ? { [name]: word } : {}),
});

export const whole = (name, least, most) => ({
  write: (state) => String(state[name]),
  read: (word) => (/^\d{1,3}$/.test(word) && word >= least && word <= most ? { [name]: Number(word) } : {}),
});

// A node, or null.
export const node = (name) => ({
  write: (state) => (state[name] === null ? "" : state.scene.nodes[state[name]].name),
  read(word, scene) {
    const [found] = nodesNamed([word], scene);
    return found === undefined ? {} : { [name]: found };
  },
});

// A set of nodes.
export const nodes = (name) => ({
  write: (state) => [...state[name]].map((member) => state.scene.nodes[member].name).join(","),
  read: (word, scene) => (word ? { [name]: new Set(nodesNamed(word.split(","), scene)) } : {}),
});

const nodesNamed = (names, scene) =>
  names.map((name) => scene.nodes.findIndex((each) => each.name === name)).filter((found) => found >= 0);

export const tick = (name) => ({
  write: (state) => (state[name] ? "on" : "off"),
  read: (word) => (["on", "off"].includes(word) ? { [name]: word === "on" } : {}),
});

// The words for what differs from the usual state.
export function written(table, state, usual) {
  const words = [];
  for (const [key, { write }] of Object.entries(table)) {
    const word = write(state);
    if (word !== write(usual)) words.push(`${key}=${encodeURIComponent(word).replaceAll("%2C", ",")}`);
  }
  return words.join("&");
}

// The changes that words ask for; what is unknown is as if it were not there.
export function changesOf(table, words, scene) {
  const asked = new URLSearchParams(words);
  return Object.assign({}, ...Object.entries(table).map(([key, { read }]) => read(asked.get(key) ?? "", scene)));
}
