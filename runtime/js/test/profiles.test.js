import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { findProfile } from "../src/images/find_profile.js";
import { toSrgb } from "../src/images/profiles.js";
import { file } from "./expected.js";

const lcms = () => import("lcms-wasm");
const colours = Uint8Array.from({ length: 4 * 1000 }, (_, at) => (at % 4 === 3 ? at % 251 : (at * 37) % 256));

async function found(name) {
  return await findProfile(Uint8Array.from(readFileSync(file(name))));
}

test("without LittleCMS a picture that wants it says how to have it", async () => {
  const { profile, space } = await found("profile-p3.jpg");
  const none = () => Promise.reject(new Error("Cannot find package"));
  await assert.rejects(toSrgb(profile, space, none), {
    name: "ImageError",
    message: /^it has a colour profile, which wants lcms-wasm, .*Cannot find package\): npm install lcms-wasm/,
  });
  assert.equal(await toSrgb(profile, "GRAY", none), null);
  assert.equal(await toSrgb(null, "RGB", none), null);
  // And is not remembered.
  assert.ok(await toSrgb(profile, space, lcms));
});

test("many profiles, also hostile ones, leave those that are in use alone", async () => {
  const { profile } = await found("profile-p3.jpg");
  const convert = await toSrgb(profile, "RGB", lcms);
  const before = convert(colours);
  assert.notDeepEqual(before, colours);
  for (let seed = 0; seed < 200; seed++) {
    const broken = Uint8Array.from(profile);
    for (let times = 0; times < 4; times++) {
      const place = 128 + ((seed * 7919 + times * 104_729) % (broken.length - 128));
      broken[place] = (seed * 31 + times * 17) % 256;
    }
    const other = await toSrgb(broken, "RGB", lcms);
    if (other) assert.equal(other(colours).length, colours.length);
  }
  assert.deepEqual(convert(colours), before);
  assert.deepEqual((await toSrgb(profile, "RGB", lcms))(colours), before);
});

test("a part of many pixels is converted as they are alone, and alpha stays", async () => {
  const { profile } = await found("profile-prophoto.png");
  const convert = await toSrgb(profile, "RGB", lcms);
  const many = new Uint8Array(4 * 70_000);
  for (let place = 0; place < many.length; place += colours.length) many.set(colours, place);
  const shown = convert(many);
  assert.deepEqual(shown.slice(-colours.length), convert(colours));
  assert.ok(shown.every((value, place) => place % 4 !== 3 || value === many[place]));
});

test("a PNG whose profile unpacks to more than a megabyte has none", async () => {
  const png = readFileSync(file("rgb.png"));
  const packed = Buffer.from(await new Response(
    new Blob([new Uint8Array(1 << 24)]).stream().pipeThrough(new CompressionStream("deflate")),
  ).arrayBuffer());
  const body = Buffer.concat([Buffer.from("iCCPp\0\0"), packed, Buffer.alloc(4)]);
  const size = Buffer.alloc(4);
  size.writeUInt32BE(body.length - 8);
  const bomb = Uint8Array.from(Buffer.concat([png.subarray(0, 33), size, body, png.subarray(33)]));
  assert.deepEqual(await findProfile(bomb), { profile: null, space: "RGB" });
});
