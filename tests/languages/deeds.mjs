// What the tests have the clients of docs/examples/node do: `node deeds.mjs DEED…`. What a deed finds out is
// printed, as JSON on a line of its own.

import celery from "../../docs/examples/node/node_modules/celery-node/dist/index.js";
import { CeleryClient } from "../../docs/examples/node/celery_node.mjs";
import { Client, envelope, headersOf } from "../../docs/examples/node/embedq.mjs";
import { Redis } from "../../docs/examples/node/node_modules/ioredis/built/index.js";

const url = process.env.EMBEDQ_BROKER_URL;
const TEXT = "öffnet ☃\n\"\\ 🙂";

const deeds = {
  async plain(client) {
    const items = Array.from({ length: 300 }, (_, number) => ({ id: `plain-${number}`, text: `${TEXT} ${number}` }));
    await client.enqueue("docs", items, { lane: "bulk" });
    await client.enqueue("docs", [{ id: "plain-meta", text: "with metadata", metadata: { lang: "en" } }]);
    await client.delete("docs", ["plain-0"]);
  },

  async given(client) {
    await client.enqueue("numbered", [{ id: "1", text: "seventh", version: 7 }]);
    await refusal(client.enqueue("numbered", [{ id: "1", text: "without a version" }]));
  },

  async long(client) {
    const items = Array.from({ length: 3 }, (_, number) => ({ id: `long-${number}`, text: "ö".repeat(250_000) }));
    await client.enqueue("docs", items);
  },

  async refused(client) {
    await refusal(client.enqueue("nowhere", [{ id: "1", text: "text" }]));
    await refusal(client.enqueue("docs", [{ id: 1, text: "text" }]));
    await refusal(client.enqueue("docs", [{ id: "1", text: "text", version: 1 }]));
    await refusal(client.embedQuery("docs", "nobody answers", { timeout: 0.1 }));
  },

  async query(client) {
    const { vector, generation } = await client.embedQuery("docs", "a question", { timeout: 20 });
    print({ vector, generation });
  },

  async celery() {
    const client = new CeleryClient(url, { source: "celery-node" });
    await client.enqueue("docs", [{ id: "celery", text: TEXT }, { id: "celery-meta", text: "two", metadata: { n: 1 } }]);
    await client.enqueue("docs", [{ id: "celery-bulk", text: "in bulk" }], { lane: "bulk" });
    await client.enqueue("docs", [{ id: "celery-bad" }]); // no text
    await client.close();
  },

  // The package as its own page shows it, but for the user that its Redis client does not take from the URL.
  async stock() {
    await sendStock({ v: 1, collection: "docs", items: [{ id: "stock", text: "as it comes" }] });
    await sendStock({ v: 1, collection: "docs", items: [{ id: "stock-v1", text: "protocol 1" }] }, 1);
  },

  async bad() {
    const redis = new Redis(url, { enableReadyCheck: false });
    const push = (payload) => redis.lpush("embedq.docs", payload);
    const message = (job) => {
      const headers = headersOf("embedq.embed", "docs", Date.now() * 1e3, {});
      return envelope(headers, "embedq.docs", [[], { job }, {}]);
    };
    await push('{"no json');
    await push(message({ v: 1, collection: "nowhere", items: [{ id: "node-nowhere", text: "text" }] }));
    await push(message({ v: 1, collection: "docs", items: [{ id: "node-no-text" }] }));
    await push(message({ v: 2, collection: "docs", items: [{ id: "node-v2", text: "text" }] }));
    await push(JSON.stringify({ ...JSON.parse(message({})), body: "%%% not base64" }));
    await redis.quit();
  },
};

async function sendStock(job, protocol = 2) {
  const client = celery.createClient(url, url, "embedq.docs");
  const { username, password } = new URL(url);
  client.conf.CELERY_BROKER_OPTIONS = client.conf.CELERY_BACKEND_OPTIONS = { username, password, enableReadyCheck: false };
  client.conf.TASK_PROTOCOL = protocol;
  client.createTask("embedq.embed").applyAsync([], { job });
  await client.isReady();
  await client.disconnect();
}

async function refusal(promise) {
  await promise.then(() => print("not refused"), (error) => print(error.message));
}

function print(found) {
  console.log(JSON.stringify(found));
}

const client = new Client(url, { source: "node" });
for (const name of process.argv.slice(2)) await deeds[name](client);
await client.close();
