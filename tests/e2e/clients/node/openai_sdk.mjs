// node openai_sdk.mjs WAY BODY: asks with the openai SDK and prints what it made of the answer.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ maxRetries: 0, timeout: 20_000 });
const format = zodTextFormat(z.object({ city: z.string(), degrees: z.number() }), "weather");

const ways = {
  create: (body) => client.responses.create(body),
  stream: (body) => client.responses.stream(body).finalResponse(),
  parse: (body) => client.responses.parse({ ...body, text: { format } }),

  async events(body) {
    let last;
    for await (const event of await client.responses.create({ ...body, stream: true })) {
      last = event;
    }
    return last;
  },

  // Leaves with the first words, and lives on.
  async abort(body) {
    const stream = await client.responses.create({ ...body, stream: true });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") {
        stream.controller.abort();
        break;
      }
    }
    return client.responses.create({ ...body, model: "qwen3-coder-plus" });
  },
};

const [way, body] = process.argv.slice(2);
let answer;
try {
  answer = await ways[way](JSON.parse(body));
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  const { status, code, param, type, message } = error;
  answer = { error: error.constructor.name, status, code, param, type, message };
}
console.log(JSON.stringify(answer));
