// The server's answers, and what it says of its model.

export class Lost extends Error {}

// A response of the server. Throws what it says is wrong, or Lost where it does not answer.
let served; // the model, by its hash
export async function ask(path, options) {
  const response = await fetch(path, options).catch(() => {
    throw new Lost();
  });
  served ??= response.headers.get("Model");
  if (response.headers.get("Model") !== served) {
    location.reload(); // the server was started again, with another one
    await new Promise(() => {});
  }
  if (!response.ok) throw new Error(await response.text());
  return response;
}

export const model = await ask("model").then((response) => response.json());
