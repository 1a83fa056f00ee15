// Asks transformers.js, as it is installed, about a folder; answers in JSON on standard output.
// node transformers_js.mjs LIBRARY < {"folder", "dtypes", "labels", "template", "images"}
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const library = await import(pathToFileURL(process.argv[2]).href);
const asked = JSON.parse(readFileSync(0, "utf8"));
library.env.allowRemoteModels = false;
library.env.localModelPath = "/";
const load = (kind, dtype) => kind.from_pretrained(asked.folder, { dtype, local_files_only: true });

const answers = {};
for (const dtype of asked.dtypes) {
  const scorer = await library.pipeline("zero-shot-image-classification", asked.folder, { dtype });
  const scores = [];
  for (const image of asked.images) {
    const found = await scorer(image, asked.labels, { hypothesis_template: asked.template });
    const byLabel = new Map(found.map((one) => [one.label, one.score]));
    scores.push(asked.labels.map((label) => byLabel.get(label)));
  }
  const sigmoid = scorer.model.config.model_type === "siglip";
  const [texts, images] = sigmoid
    ? [library.SiglipTextModel, library.SiglipVisionModel]
    : [library.CLIPTextModelWithProjection, library.CLIPVisionModelWithProjection];
  const padding = sigmoid ? "max_length" : true;
  const tokens = scorer.tokenizer(asked.labels, { padding, truncation: true });
  const ofTexts = await (await load(texts, dtype))(tokens);
  const read = await Promise.all(asked.images.map((image) => library.RawImage.read(image)));
  const ofImages = await (await load(images, dtype))(await scorer.processor(read));
  answers[dtype] = {
    scores,
    texts: (ofTexts.text_embeds ?? ofTexts.pooler_output).tolist(),
    images: (ofImages.image_embeds ?? ofImages.pooler_output).tolist(),
  };
}
process.stdout.write(JSON.stringify(answers));
