// Make an image of each prompt, and pay for each of them once, whatever goes wrong.
//
// Usage: node node_careful.mjs PROMPT...
//
// If it ends early, run it again: it goes on with the tasks that it has paid for.

import { createHash } from "node:crypto";
import { readFile, rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const BASE_URL = process.env.SEEDREAM_BASE_URL ?? "https://api.kie.ai";
const API_KEY = process.env.SEEDREAM_API_KEY ?? "seedbed-key"; // by default the key of the mock server
const FOLDER = process.env.SEEDBED_DRILL_FOLDER ?? "."; // a drill has an empty folder for each run
const DEADLINE = 15 * 60; // the service advises to give up after 10 to 15 minutes, and some images take that long

/** There is no image of a prompt, for this reason. */
class Problem extends Error {}

/** It is unknown whether the task of a prompt exists, and is paid for. */
class Unknown extends Problem {}

/** Send a request, and return the code and the data of its response, without a code if it is not one of the service. */
async function call(path, options = {}) {
  const headers = { Authorization: `Bearer ${API_KEY}`, "Content-Type": "application/json" };
  // fetch() has no time limit of its own.
  const response = await fetch(BASE_URL + path, { ...options, headers, signal: AbortSignal.timeout(30_000) });
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  const text = await response.text();
  try {
    // The outcome is the code in the body: the HTTP status is 200 for errors, too.
    const { code, data } = JSON.parse(text);
    return { code, data, retryAfter };
  } catch {
    return { retryAfter };
  }
}

/** Return the ID of the task of a prompt, which is created if there is none yet. */
async function createTask(prompt) {
  const record = `${FOLDER}/${createHash("sha256").update(prompt).digest("hex").slice(0, 16)}.task`;
  try {
    // Before the request is sent: if this program is killed now, the next run knows that a task may exist. Only one of
    // two runs at the same time can make the file.
    await writeFile(record, "", { flag: "wx" });
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
    const taskId = await readFile(record, "utf8");
    if (taskId) return taskId;
    throw new Problem(`its task may exist; look into your account, then write its ID into ${record}`);
  }
  const input = { prompt, aspect_ratio: "1:1", quality: "basic" };
  const body = JSON.stringify({ model: "seedream/4.5-text-to-image", input });
  let response;
  for (let attempt = 0; attempt < 8; attempt++) {
    try {
      response = await call("/api/v1/jobs/createTask", { method: "POST", body });
    } catch (error) {
      // The request may have arrived, and a second one might pay for a second image.
      throw new Unknown(`its task may exist (${error.cause ?? error})`);
    }
    if (response.code === 200 && response.data?.taskId) {
      await writeFile(record, response.data.taskId);
      return response.data.taskId;
    }
    if (![429, 455].includes(response.code)) break;
    // Too many requests, or maintenance: no task was created, and it is worth another try, but not at once.
    await sleep(1000 * Math.max(response.retryAfter, Math.min(5 * 2 ** attempt, 60)));
  }
  if ([401, 402, 404, 422, 429, 455, 501, 505].includes(response.code)) {
    // Refused, so there is no task. To repeat the same request is pointless.
    await rm(record);
    throw new Problem(`the service refused it with code ${response.code}`);
  }
  throw new Unknown(`its task may exist (code ${response.code})`);
}

/** Return the record of a task once it has ended. */
async function waitFor(taskId) {
  const begun = performance.now();
  for (let failures = 0; ; ) {
    const path = `/api/v1/jobs/recordInfo?taskId=${encodeURIComponent(taskId)}`;
    const { code, data, retryAfter } = await call(path).catch(() => ({ retryAfter: 0 }));
    if (code === 401) throw new Problem(`the key was refused; the task ${taskId} is kept for a run with the right one`);
    const isKnown = code === 200 && typeof data?.state === "string";
    if (isKnown && ["success", "fail"].includes(data.state)) return data;
    // Everything else may pass, also "unknown task": a new task is unknown for a moment. The task is paid for, so bad
    // responses are no reason to lose it.
    failures = isKnown ? 0 : failures + 1;
    const waited = (performance.now() - begun) / 1000;
    if (waited > DEADLINE) throw new Problem(`the task ${taskId} has not ended; run this again to go on`);
    // Often at first, seldom later, as the service advises, and even less often while it has trouble.
    const interval = waited < 30 ? 2.5 : waited < 120 ? 8 : 20;
    await sleep(1000 * Math.max(interval, retryAfter, failures && Math.min(2 ** failures, 30)));
  }
}

/** Save the image of a record, before the service deletes it. */
async function fetchImage(record) {
  for (let attempt = 0; attempt < 4; attempt++) {
    if (attempt) await sleep(1000 * 2 ** attempt);
    try {
      // Without call(), which would send the key. An image may be on any host.
      const [url] = JSON.parse(record.resultJson).resultUrls;
      const response = await fetch(url, { signal: AbortSignal.timeout(60_000) });
      const image = Buffer.from(await response.arrayBuffer());
      // A JPEG file ends with these two bytes. Without them, it is half an image.
      if (response.ok && image.subarray(-2).equals(Buffer.from([0xff, 0xd9]))) {
        await writeFile(`${FOLDER}/${record.taskId}.jpg`, image);
        return;
      }
    } catch {
      // Half a response, or no valid URL: the next attempt may be better.
    }
  }
  throw new Problem(`the image of task ${record.taskId} cannot be fetched`);
}

async function generate(prompt, taskId) {
  const record = await waitFor(taskId);
  if (record.state === "fail") {
    throw new Problem(`its task failed, which costs nothing (${record.failCode}: ${record.failMsg})`);
  }
  await fetchImage(record);
  console.log(`${prompt}: done`);
}

function report(prompt, error) {
  if (!(error instanceof Problem)) throw error;
  console.error(`${prompt}: ${error.message}`);
  // Scripts rely on the exit code: it is 0 only if every image is there.
  process.exitCode = 1;
}

// One createTask after another, since the service takes 20 in 10 seconds. The tasks are awaited side by side.
const waiting = [];
let pause = 0;
for (const prompt of process.argv.slice(2)) {
  await sleep(pause);
  pause = 0;
  try {
    const taskId = await createTask(prompt);
    waiting.push(generate(prompt, taskId).catch((error) => report(prompt, error)));
  } catch (error) {
    report(prompt, error);
    // The service has trouble. Without a pause, all the other tasks would become as uncertain.
    if (error instanceof Unknown) pause = 10_000;
  }
}
await Promise.all(waiting);
