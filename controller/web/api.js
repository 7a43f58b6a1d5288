// The token comes with the fragment of the printed address, which no browser sends, and is kept for this tab alone.
const given = /^#([\w-]{20,})$/.exec(location.hash)?.[1];
if (given !== undefined) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", "#/approvals");
}
const token = sessionStorage.getItem("token");
const headers = token === null ? {} : { Authorization: `Bearer ${token}` };

// How people can sign in (not at all: by the printed address alone), and who has.
export async function signedIn() {
  const status = await api("/auth/status");
  if (status.csrf !== null) headers["X-Weir-CSRF"] = status.csrf;
  return status;
}

export async function signOut() {
  await fetch("/auth/logout", { method: "POST", headers });
  sessionStorage.removeItem("token");
  location.reload();
}

export async function api(path, options = {}) {
  const response = await fetch(path, { ...options, headers });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error ?? response.statusText);
  return body;
}

export function post(path, body) {
  return api(path, { method: "POST", body: JSON.stringify(body) });
}

// EventSource cannot send a header, and a token in a URL would stand in logs: so the stream is read by fetch.
export async function follow(heard, said) {
  for (;;) {
    try {
      const response = await fetch("/api/events", { headers });
      if (!response.ok) throw new Error((await response.json()).error);
      said("live");
      heard();
      const reader = response.body.getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) heard();
      said("connecting …");
    } catch (error) {
      said(error.message);
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}
