// Make an image of each prompt, as it is often written: no response is ever checked, and all prompts are sent at once.
//
// Usage: node node_naive.mjs PROMPT...

import { writeFile } from "node:fs/promises";

const BASE_URL = process.env.SEEDREAM_BASE_URL ?? "https://api.kie.ai";
const API_KEY = process.env.SEEDREAM_API_KEY ?? "seedbed-key"; // by default the key of the mock server
const FOLDER = process.env.SEEDBED_DRILL_FOLDER ?? ".";
const DEADLINE = 240_000;

const headers = { Authorization: `Bearer ${API_KEY}`, "Content-Type": "application/json" };
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function generate(prompt) {
  const input = { prompt, aspect_ratio: "1:1", quality: "basic" };
  const body = JSON.stringify({ model: "seedream/4.5-text-to-image", input });
  const created = await fetch(`${BASE_URL}/api/v1/jobs/createTask`, { method: "POST", headers, body });
  // Mistake: the HTTP status is 200 for errors, too. Without data, this throws, and the program ends: the tasks of the
  // other prompts are paid for, and nobody fetches their images.
  const { taskId } = (await created.json()).data;
  const begun = Date.now();
  // Mistake: an image that takes 282 seconds is paid for and lost.
  while (Date.now() - begun < DEADLINE) {
    // Mistake: ten queries a second for each task are more than the service allows.
    await sleep(100);
    const response = await fetch(`${BASE_URL}/api/v1/jobs/recordInfo?taskId=${taskId}`, { headers });
    const record = (await response.json()).data;
    if (record.state === "success") {
      const image = await fetch(JSON.parse(record.resultJson).resultUrls[0]);
      await writeFile(`${FOLDER}/${taskId}.jpg`, Buffer.from(await image.arrayBuffer()));
      return;
    }
    if (record.state === "fail") throw new Error(record.failMsg);
  }
  throw new Error(`${taskId} took too long`);
}

await Promise.all(process.argv.slice(2).map(generate));
