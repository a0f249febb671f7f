// node-redis in both protocols, at port $PORT.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const modules = createRequire(`${process.env.NODE_MODULES}/`);
const { createClient, WatchError } = modules("redis");
const url = `redis://127.0.0.1:${process.env.PORT}`;

for (const RESP of [2, 3]) {
  const client = createClient({ url, RESP, name: "node" });
  client.on("error", (error) => assert.fail(error));
  await client.connect();
  assert.equal(await client.ping(), "PONG");
  await client.flushAll();
  assert.equal(await client.set("s", "v", { EX: 100, NX: true }), "OK");
  assert.equal(await client.get("s"), "v");
  assert.ok((await client.ttl("s")) > 0);
  assert.equal(await client.mSet({ a: "1", b: "2" }), "OK");
  assert.deepEqual(await client.mGet(["a", "b", "absent"]), ["1", "2", null]);
  assert.equal(await client.hSet("h", { f: "1", g: "2" }), 2);
  assert.deepEqual({ ...(await client.hGetAll("h")) }, { f: "1", g: "2" });
  assert.equal(await client.hIncrBy("h", "f", 41), 42);
  // Commands of one turn are one pipeline.
  const counts = await Promise.all(Array.from({ length: 500 }, () => client.incr("n")));
  assert.deepEqual(counts, Array.from({ length: 500 }, (_, n) => n + 1));
  assert.deepEqual(await client.multi().set("{x}1", "1").incr("{x}1").get("{y}none").exec(), ["OK", 2, null]);

  const other = client.duplicate();
  await other.connect();
  await other.watch("s");
  await client.set("s", "changed meanwhile");
  await assert.rejects(other.multi().set("s", "lost").exec(), WatchError);
  other.destroy();

  let scanned = 0;
  for (let n = 0; n < 300; n++) await client.set(`scan:${n}`, "x");
  for await (const keys of client.scanIterator({ MATCH: "scan:*", COUNT: 20 })) scanned += keys.length;
  assert.equal(scanned, 300);
  const buffers = await client.get("s");
  assert.equal(buffers, "changed meanwhile");
  assert.match(await client.info("server"), /redis_version:/);
  assert.equal(await client.clientGetName(), "node");
  assert.equal((await client.clientInfo()).name, "node");
  await assert.rejects(client.lPush("l", "x"), /unknown command 'LPUSH'/);
  await client.close();
}
const { version } = modules("redis/package.json");
console.log("node-redis", version);
