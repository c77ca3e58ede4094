// Creates, calls and reads an object with nothing but the .proto files and JSON.
// Usage: node node_js_client.cjs HOST:PORT PROTOS_DIRECTORY
"use strict";
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, protos] = process.argv.slice(2);
const definition = loader.loadSync("perdure/wire/v1/calls.proto", {
  includeDirs: [protos], keepCase: true, longs: Number, enums: String, defaults: true,
});
const { Calls } = grpc.loadPackageDefinition(definition).perdure.wire.v1;
const client = new Calls(address, grpc.credentials.createInsecure());

function call(request) {
  const { json, ...rest } = request;
  const message = { type: "ShoppingCart", id: "from-node-js", ...rest };
  if (json !== undefined) {
    message.arguments = { encoding: "ENCODING_JSON", data: Buffer.from(JSON.stringify(json)) };
  }
  const deadline = new Date(Date.now() + 30_000);
  return new Promise((resolve, reject) => {
    client.Call(message, { deadline }, (error, answer) =>
      error ? reject(error) : resolve(JSON.parse(answer.result.data.toString("utf8"))));
  });
}

async function main() {
  const created = await call({ operation: "OPERATION_GET_OR_CREATE" });
  const first = await call({ method: "add", json: ["sku-1", "teapot", "24.90"] });
  const second = await call({
    method: "add", json: { item: "sku-1", name: "teapot", price: "24.90", quantity: 2 },
  });
  const order = await call({ method: "checkout", idempotency_key: "click-1" });
  const again = await call({ method: "checkout", idempotency_key: "click-1" });
  const state = await call({ operation: "OPERATION_GET" });
  const refused = await call({ method: "nothing" }).catch((error) => grpc.status[error.code]);
  console.log(JSON.stringify({ created, first, second, order, again, state, refused }));
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
