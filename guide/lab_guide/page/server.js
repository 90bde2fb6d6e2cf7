// What the page and its server tell each other.

export async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

export async function send(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) {
    const said = await answer.text();
    let detail = said;
    try { detail = JSON.parse(said).detail; } catch { /* it is no JSON: shown as it is */ }
    throw new Error(Array.isArray(detail) ? detail.map(plain).join("\n") : typeof detail === "string" ? detail : said);
  }
  return answer.status === 202 ? null : answer.json();
}

/** What the server has against a field, in words: the field's name, where it is about one. */
function plain({ loc, msg }) {
  const field = loc.slice(1).filter((part) => part !== "plan" && part !== "predicted").join(" ");
  const words = msg.replace(/^Value error, /, "");
  return field ? `${field}: ${words}` : words[0].toUpperCase() + words.slice(1);
}

/** Listen for events. A connection that the server refuses is tried again, too: it may be another one by then. */
export function listen(handlers, lost) {
  const source = new EventSource("/events");
  for (const [name, handle] of Object.entries(handlers)) {
    source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  }
  source.addEventListener("error", () => {
    lost();
    if (source.readyState === EventSource.CLOSED) setTimeout(() => listen(handlers, lost), 2000);
  });
}
