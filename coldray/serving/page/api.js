// The service, as the page asks it. Text from it is data: nobody here makes markup of it.

const KEPT = "coldray-token";

/** An answer that is no success: a problem document (RFC 9457), or no answer at all. */
export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail ? `${title}: ${detail}` : title);
    this.status = status;
  }
}

/** Take the token out of the address, so that it stays in no history and no picture of the window. */
export function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(KEPT, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

export function keepToken(token) {
  sessionStorage.setItem(KEPT, token);
}

async function ask(path, { method = "GET", body, accept = "application/json", signal } = {}) {
  const headers = { Accept: accept };
  const token = sessionStorage.getItem(KEPT);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(`./v1/${path}`, { method, headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer", "is it running, and are you on its network?");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Problem(answer.status, told.title ?? `Status ${answer.status}`, told.detail ?? "");
  }
  return answer;
}

const json = async (path, options) => (await ask(path, options)).json();
const id = encodeURIComponent;

export const status = () => json("status");
export const find = (query, signal) => json(`items?limit=8&query=${id(query)}`, { signal });
export const item = (itemId) => json(`items/${id(itemId)}`);
export const around = (itemId) => json(`graph/${id(itemId)}`);
export const add = (row) => json("items", { method: "POST", body: { items: [row] } });
export const remove = (itemId) => json(`items/${id(itemId)}`, { method: "DELETE" });

/** Yield [event, data] of a recommendation as its hops are done. */
export async function* recommend(body, signal) {
  const answer = await ask("recommend", { method: "POST", body, accept: "text/event-stream", signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith(":")) continue; // a sign of life
      const [event, data] = block.split("\n");
      const told = JSON.parse(data.slice("data: ".length));
      const name = event.slice("event: ".length);
      if (name === "error") throw new Problem(told.status, told.title, told.detail);
      yield [name, told];
    }
  }
}
