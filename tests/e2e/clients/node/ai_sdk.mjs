// Asks with the AI SDK and tells what it made of the answer.
import { createOpenAI } from "@ai-sdk/openai";
import { AISDKError, APICallError, Output, generateText, isStepCount, streamText, tool } from "ai";
import { z } from "zod";

import { serve } from "./serve.mjs";

const openai = createOpenAI();
const tools = {
  get_weather: tool({
    description: "The weather of a city",
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => `rain in ${city}`,
  }),
  get_time: tool({
    inputSchema: z.object({ tz: z.string() }),
    execute: ({ tz }) => ({ tz, time: "noon" }),
  }),
  note: openai.tools.customTool({
    description: "Takes a note as it is",
    execute: (text) => `noted ${text}`,
  }),
};

function told({ text, reasoningText, finishReason, usage, steps }) {
  const calls = steps.flatMap((step) => step.toolCalls.map(({ toolName, input }) => [toolName, input]));
  return { text, reasoningText, finishReason, usage, steps: steps.length, calls };
}

function complete({ model, prompt, messages, options, instructions, useTools }) {
  return {
    model: openai.responses(model ?? "qwen3-coder-plus"),
    ...(prompt === undefined ? { messages } : { prompt }),
    ...(instructions === undefined ? {} : { instructions }),
    ...(useTools ? { tools, stopWhen: isStepCount(4) } : {}),
    providerOptions: { openai: options ?? {} },
    maxRetries: 0,
  };
}

const ways = {
  generate: async (wanted) => told(await generateText(complete(wanted))),

  async stream(wanted) {
    const failures = [];
    const result = streamText({
      ...complete(wanted),
      onError: ({ error }) => failures.push(error),
    });
    let streamed = "";
    for await (const piece of result.textStream) streamed += piece;
    if (failures.length) throw failures[0];
    const [text, reasoningText, finishReason, usage, steps] = await Promise.all([
      result.text, result.reasoningText, result.finishReason, result.usage, result.steps,
    ]);
    return { ...told({ text, reasoningText, finishReason, usage, steps }), streamed };
  },

  async object(wanted) {
    const schema = z.object({ city: z.string(), degrees: z.number() });
    const result = await generateText({ ...complete(wanted), output: Output.object({ schema }) });
    return result.output;
  },

  // The second question has the first answer as its history, as a program keeps it.
  async conversation(wanted) {
    const messages = [{ role: "user", content: wanted.prompt }];
    const asked = { ...wanted, prompt: undefined };
    const first = await generateText(complete({ ...asked, messages }));
    messages.push(...first.response.messages, { role: "user", content: "and now?" });
    return told(await generateText(complete({ ...asked, messages })));
  },

  // The history is compacted, and the conversation goes on from what came back.
  async compaction(wanted) {
    const messages = [{ role: "user", content: wanted.prompt }];
    const asked = { ...wanted, prompt: undefined };
    const first = await generateText(complete({ ...asked, messages }));
    messages.push(...first.response.messages);
    const options = { ...wanted.options, compactionTrigger: true };
    const compacted = streamText(complete({ ...asked, messages, options }));
    const kept = (await compacted.response).messages;
    const next = [messages[0], ...kept, { role: "user", content: "and now?" }];
    return { ...told(await generateText(complete({ ...asked, messages: next }))), kept };
  },

  // Only what is new is sent.
  async continuation(wanted) {
    const first = await generateText(complete(wanted));
    const options = { ...wanted.options, previousResponseId: first.providerMetadata.openai.responseId };
    return told(await generateText(complete({ ...wanted, prompt: "and now?", options })));
  },

  // Leaves with the first words.
  async abort(wanted) {
    const controller = new AbortController();
    const result = streamText({ ...complete(wanted), abortSignal: controller.signal });
    for await (const piece of result.textStream) {
      if (piece) controller.abort();
    }
    return { left: true };
  },
};

function refused(error) {
  if (!AISDKError.isInstance(error)) return undefined;
  if (!APICallError.isInstance(error)) return { error: error.name, message: error.message };
  const { statusCode, message, isRetryable, data } = error;
  return { error: error.name, statusCode, message, isRetryable, code: data?.error?.code };
}

await serve(ways, refused);
