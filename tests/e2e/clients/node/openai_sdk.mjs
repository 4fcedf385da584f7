// Asks with the openai SDK and tells what it made of the answer.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

import { serve } from "./serve.mjs";

const client = new OpenAI({ maxRetries: 0, timeout: 20_000 });
const format = zodTextFormat(z.object({ city: z.string(), degrees: z.number() }), "weather");

const ways = {
  create: (body) => client.responses.create(body),
  stream: (body) => client.responses.stream(body).finalResponse(),
  compact: (body) => client.responses.compact(body),
  parse: (body) => client.responses.parse({ ...body, text: { format } }),

  async events(body) {
    let last;
    for await (const event of await client.responses.create({ ...body, stream: true })) {
      last = event;
    }
    return last;
  },

  // Leaves with the first words.
  async abort(body) {
    const stream = await client.responses.create({ ...body, stream: true });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") {
        stream.controller.abort();
        break;
      }
    }
    return { left: true };
  },
};

function told(error) {
  if (!(error instanceof OpenAI.APIError)) return undefined;
  const { status, code, param, type, message } = error;
  return { error: error.constructor.name, status, code, param, type, message };
}

await serve(ways, told);
