/** The page: one picture against labels, and many pictures by words. All of it in this browser. */

import { BareclipError, load } from "bareclip";

const SAMPLES = [
  "cat", "dog", "bird", "fish", "car", "house", "tree", "flower", "cat-and-dog", "dog-on-the-beach",
  "sunset-over-the-ocean", "three-green-triangles",
];
const MOST_HITS = 24;
// Read at a time, so that the page can say how far it is.
const GROUP = 8;

const at = (id) => document.getElementById(id);
const megabytes = (count) => (count / 1e6).toFixed(1);
const album = [];
let clip;
let vector = null;
let turn = 0;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function say(id, text, wrong = false) {
  at(id).textContent = text;
  at(id).classList.toggle("wrong", wrong);
}

function percent(share) {
  if (share >= 0.9995) return "> 99.9 %";
  return share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/** Two digits, and no minus before none. */
function cosine(similarity) {
  return similarity.toFixed(2).replace(/^-(0\.00)$/, "$1");
}

/** Does some work, and says what went wrong with it. */
async function told(id, work) {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof BareclipError)) throw error;
    say(id, error.message, true);
  }
}

// One picture against labels.

async function choose(file, name) {
  const mine = ++turn;
  at("shown").src = URL.createObjectURL(file);
  at("shown").alt = name;
  at("shown").hidden = false;
  at("drop-text").hidden = true;
  vector = null;
  say("classify-status", "Looking …");
  await told("classify-status", async () => {
    await ready;
    const [found] = await clip.embedImages([file]);
    if (mine !== turn) return;
    vector = found;
    await classify();
  });
}

async function classify() {
  if (!vector) return;
  const labels = at("labels").value.split(/[,\n]/).map((label) => label.trim()).filter(Boolean);
  if (!labels.length) return say("classify-status", "Type some labels first.");
  const mine = ++turn;
  const classifier = await clip.classifier([...new Set(labels)], { templates: "five" });
  if (mine !== turn) return;
  const [shares] = classifier.probabilities([vector]);
  const bars = classifier.labels.map((label, place) => ({ label, share: shares[place] }));
  bars.sort((a, b) => b.share - a.share);
  at("bars").replaceChildren(
    ...bars.map(({ label, share }) => {
      const fill = make("span", { className: "fill" });
      fill.style.width = `${100 * share}%`;
      const value = make("span", { className: "value", textContent: percent(share) });
      return make("li", {}, fill, make("span", { className: "name", textContent: label }), value);
    }),
  );
  say("classify-status", `Most likely: ${bars[0].label}, ${percent(bars[0].share)}`);
}

let waiting;
at("labels").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => told("classify-status", classify), 300);
});
at("picture").addEventListener("change", ({ target }) => {
  if (target.files[0]) choose(target.files[0], target.files[0].name);
  target.value = "";
});
document.addEventListener("paste", ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (file?.type.startsWith("image/")) choose(file, "the pasted picture");
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", () => at("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  const files = [...event.dataTransfer.files].filter(({ type }) => type.startsWith("image/"));
  if (files.length > 1) add(files);
  else if (files.length) choose(files[0], files[0].name);
});

async function sample(name) {
  const answer = await fetch(`samples/${name}.png`);
  return new File([await answer.blob()], name, { type: "image/png" });
}

at("samples").append(
  ...SAMPLES.map((name) => {
    const words = name.replaceAll("-", " ");
    const button = make("button", { type: "button" }, make("img", { src: `samples/${name}.png`, alt: words }));
    button.addEventListener("click", async () => choose(await sample(name), words));
    return make("li", {}, button);
  }),
);

// Many pictures by words.

async function add(files) {
  await told("search-status", async () => {
    await ready;
    const failed = [];
    for (let start = 0; start < files.length; start += GROUP) {
      say("search-status", `Reading ${start} of ${files.length} …`);
      const group = files.slice(start, start + GROUP);
      const { vectors, kept, failures } = await clip.embedImages(group, { onError: "skip" });
      kept.forEach((place, row) => {
        const file = group[place];
        album.push({ name: file.name, url: URL.createObjectURL(file), vector: vectors[row] });
      });
      failed.push(...failures.map(({ name }) => name));
    }
    await search();
    if (failed.length) {
      say("search-status", `${album.length} pictures are there; no pictures: ${failed.join(", ")}`, true);
    }
  });
}

async function search() {
  const text = at("query").value.trim();
  if (!album.length) return say("search-status", "Add some pictures first.");
  if (!text) return say("search-status", "Type what to look for first.");
  const vectors = album.map((one) => one.vector);
  const hits = await clip.search(vectors, album, { text, k: MOST_HITS });
  at("hits").replaceChildren(
    ...hits.map(({ item, similarity }) => {
      const name = make("span", { className: "name", textContent: item.name, title: item.name });
      const value = make("span", { className: "value", textContent: cosine(similarity) });
      const image = make("img", { src: item.url, alt: item.name, loading: "lazy" });
      return make("li", {}, image, make("p", {}, name, value));
    }),
  );
  say("search-status", `The nearest of ${album.length} pictures to “${text}”, with their cosine.`);
}

at("album").addEventListener("change", ({ target }) => {
  add([...target.files]);
  target.value = "";
});
at("add-samples").addEventListener("click", async ({ target }) => {
  target.disabled = true;
  await add(await Promise.all(SAMPLES.map(sample)));
});
at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  told("search-status", async () => {
    await ready;
    await search();
  });
});

// The model.

async function start() {
  const onProgress = ({ loaded, total }) => {
    at("progress").value = loaded / total;
    at("loading-text").textContent =
      loaded < total
        ? `Fetching the model: ${megabytes(loaded)} of ${megabytes(total)} MB`
        : "Starting the model …";
  };
  try {
    clip = await load("model", { onProgress });
  } catch (error) {
    at("loading-text").textContent = `The model could not be loaded: ${error.message}`;
    throw error;
  }
  for (const id of ["progress", "loading-hint"]) at(id).hidden = true;
  const threads = `${clip.threads} thread${clip.threads === 1 ? "" : "s"}`;
  at("loading-text").textContent = `The model is ready, at ${clip.precision.vision} on ${threads}.`;
}

const ready = start();
ready.then(async () => {
  if (turn === 0) choose(await sample("dog"), "dog");
});
