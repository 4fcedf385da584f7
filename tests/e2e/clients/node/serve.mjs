import { createInterface } from "node:readline";

// Each line of input is [way, wanted]; each line of output is what came of it.
export async function serve(ways, told) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [way, wanted] = JSON.parse(line);
    let answer;
    try {
      answer = await ways[way](wanted);
    } catch (error) {
      answer = told(error) ?? { bug: String(error?.stack ?? error) };
    }
    console.log(JSON.stringify(answer));
  }
}
