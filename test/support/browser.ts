/** As much of a browser as a sign-in takes: cookies by host and path, redirects, and forms that are filled in. */
export interface Page {
  readonly url: string;
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

interface Cookie {
  readonly origin: string;
  readonly path: string;
  readonly value: string;
}

const stepsMax = 20;

export class Browser {
  readonly cookies = new Map<string, Cookie>();
  /** Redirects to an address with this prefix are not followed. */
  readonly #stopAt: string | null;

  constructor(options: { stopAt?: string } = {}) {
    this.#stopAt = options.stopAt ?? null;
  }

  /** One request, without following. */
  async ask(url: string, init: RequestInit = {}): Promise<Page> {
    const headers = new Headers(init.headers);
    const sent = [...this.cookies].filter(
      ([, { origin, path }]) => origin === new URL(url).origin && new URL(url).pathname.startsWith(path),
    );
    if (sent.length > 0)
      headers.set("cookie", sent.map(([key, { value }]) => `${key.split("|")[0]}=${value}`).join("; "));
    const answer = await fetch(url, { ...init, headers, redirect: "manual" });
    for (const line of answer.headers.getSetCookie()) this.#keep(line, url);
    return { url, status: answer.status, headers: answer.headers, text: await answer.text() };
  }

  async go(url: string, init: RequestInit = {}): Promise<Page> {
    let page = await this.ask(url, init);
    for (let step = 0; step < stepsMax; step += 1) {
      const location = page.headers.get("location");
      if (page.status < 300 || page.status >= 400 || location === null) return page;
      const next = new URL(location, page.url).href;
      if (this.#stopAt !== null && next.startsWith(this.#stopAt)) return { ...page, url: next };
      page = await this.ask(next);
    }
    throw new Error(`more than ${stepsMax} redirects`);
  }

  /** Sends the page's first form with what is hidden in it and these fields. */
  submit(page: Page, fields: Readonly<Record<string, string>> = {}): Promise<Page> {
    const form = /<form[^>]*>/.exec(page.text)?.[0];
    if (form === undefined) throw new Error(`no form on ${page.url} (${page.status}): ${page.text.slice(0, 400)}`);
    const action = /action="([^"]*)"/.exec(form)?.[1] ?? page.url;
    const body = new URLSearchParams();
    for (const [input] of page.text.matchAll(/<input[^>]*type="hidden"[^>]*>/g)) {
      const name = /name="([^"]*)"/.exec(input)?.[1];
      if (name !== undefined) body.set(name, /value="([^"]*)"/.exec(input)?.[1] ?? "");
    }
    for (const [name, value] of Object.entries(fields)) body.set(name, value);
    return this.go(new URL(action.replaceAll("&amp;", "&"), page.url).href, { method: "POST", body });
  }

  #keep(line: string, url: string): void {
    const [pair = "", ...attributes] = line.split(/;\s*/);
    const at = pair.indexOf("=");
    const name = pair.slice(0, at);
    const path = attributes.find((one) => /^path=/i.test(one))?.slice(5) ?? "/";
    const expires = attributes.find((one) => /^expires=/i.test(one))?.slice(8);
    const gone = attributes.some((one) => /^max-age=0$/i.test(one)) || (expires && Date.parse(expires) < Date.now());
    const key = `${name}|${new URL(url).origin}|${path}`;
    if (gone) this.cookies.delete(key);
    else this.cookies.set(key, { origin: new URL(url).origin, path, value: pair.slice(at + 1) });
  }
}
