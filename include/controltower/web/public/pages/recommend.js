/* Shows recommendations of Control Tower on a shop's page, and reports impressions and clicks.

<script src="/recommend.js" defer data-api="/recommend" data-product="A-7"></script>
<div data-recommend="similar" data-k="8"></div>

The script's data: api: the path that the shop's server relays to /v1/page, adding the API key; product: what this page
shows; site; visitor: the shop's id of this browser; customer-token: of who is logged in; locale. An element's data:
recommend: the placement; product, cart, query, k; link-target. Everything is written as text; only http(s) addresses
are followed. `ControlTower.show(element)` fills an element that came later. */
(() => {
  "use strict";
  const me = document.currentScript.dataset;
  const api = (me.api || "/recommend").replace(/\/+$/, "");
  const RECENT = "controltower.recent", VISITOR = "controltower.visitor", MOST = 20;

  const kept = (name) => { try { return sessionStorage.getItem(name); } catch { return null; } };
  const keep = (name, value) => { try { sessionStorage.setItem(name, value); } catch { /* not allowed: do without */ } };
  const id = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  const drawn = id(); // where nothing may be kept, of this page

  const recent = () => {
    try {
      const found = JSON.parse(kept(RECENT) || "[]");
      return Array.isArray(found) ? found.filter((p) => typeof p === "string").slice(0, MOST) : [];
    } catch { return []; }
  };
  const viewed = (product) => {
    if (product) keep(RECENT, JSON.stringify([product, ...recent().filter((p) => p !== product)].slice(0, MOST)));
  };
  const visitor = () => {
    const found = me.visitor || kept(VISITOR) || drawn;
    if (!me.visitor) keep(VISITOR, found);
    return found;
  };

  const web = (url) => {
    if (!url) return null;
    try {
      const found = new URL(url, location.href);
      return found.protocol === "https:" || found.protocol === "http:" ? found.href : null;
    } catch { return null; }
  };

  const call = async (path, options = {}) => {
    const plain = { credentials: "same-origin", ...options };
    const token = me.customerToken;
    if (token) {
      const headers = { ...plain.headers, "X-Customer-Token": token };
      const answer = await fetch(api + path, { ...plain, headers });
      if (answer.status !== 401) return answer; // a token that is too old: as a visitor
    }
    return fetch(api + path, plain);
  };

  const report = (name, list, items) => {
    const events = items.map((item) => ({
      event_id: id(), event_name: name, visitor_id: visitor(), product_id: item.product_id,
      collection_id: item.collection_id, list_id: list.placement,
      position: item.rank, recommendation_id: list.recommendation_id,
    }));
    if (!events.length) return;
    const body = JSON.stringify({ events });
    call("/events", { method: "POST", body, headers: { "Content-Type": "application/json" }, keepalive: true })
      .catch(() => {}); // the page goes on without it
  };

  const price = (item) => {
    if (typeof item.price !== "number") return "";
    try {
      const style = item.currency ? { style: "currency", currency: item.currency } : {};
      return new Intl.NumberFormat(me.locale || document.documentElement.lang || undefined, style).format(item.price);
    } catch { return `${item.price} ${item.currency || ""}`; }
  };

  const part = (kind, name, text) => {
    const made = document.createElement(kind);
    made.className = `ct-${name}`;
    if (text) made.textContent = text;
    return made;
  };

  // How it looks where the shop says nothing: any rule outside a cascade layer is stronger.
  const STYLE = `@layer controltower {
    .ct-list { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: 1rem; list-style: none;
      margin: 0; padding: 0 }
    .ct-link { display: flex; flex-direction: column; gap: .25rem; color: inherit; text-decoration: none }
    .ct-image { width: 100%; aspect-ratio: 1; object-fit: cover; background: #8881 }
    .ct-title { overflow-wrap: anywhere; word-break: keep-all }
    .ct-price { font-weight: 600 }
    .ct-reason { font-size: .85em; opacity: .7 }
  }`;
  try {
    const sheet = new CSSStyleSheet(); // no style element: a page's CSP may forbid these
    sheet.replaceSync(STYLE);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  } catch { /* an older browser: as the shop styles it */ }

  const card = (list, item, target) => {
    const made = part("li", "item"), url = web(item.url), image = web(item.image_url);
    const link = part(url ? "a" : "span", "link");
    if (url) {
      link.href = url;
      if (target) { link.target = target; link.rel = "noopener"; }
      const clicked = () => report("select_item", list, [item]);
      link.addEventListener("click", clicked);
      link.addEventListener("auxclick", (e) => { if (e.button === 1) clicked(); });
    }
    if (image) {
      const picture = part("img", "image");
      picture.loading = "lazy";
      picture.alt = "";
      picture.addEventListener("error", () => picture.replaceWith(part("span", "image")));
      picture.src = image;
      link.append(picture);
    } else link.append(part("span", "image")); // its place stays, so that titles stand in a row
    link.append(part("span", "title", item.title || item.product_id || item.collection_id));
    const cost = price(item), why = item.reason && item.reason.text;
    if (cost) link.append(part("span", "price", cost));
    if (why) link.append(part("span", "reason", why));
    made.append(link);
    return made;
  };

  const seen = (element, report_it) => {
    if (!("IntersectionObserver" in window)) return report_it();
    const watch = new IntersectionObserver((entries) => {
      if (entries.some((e) => e.isIntersecting)) { watch.disconnect(); report_it(); }
    }, { threshold: 0.25 });
    watch.observe(element);
  };

  const show = async (element) => {
    const told = element.dataset, asked = new URLSearchParams({ placement: told.recommend, visitor: visitor() });
    const product = told.product || me.product, clicks = recent().filter((p) => p !== product);
    if (product) asked.set("product", product);
    if (me.site) asked.set("site", me.site);
    for (const name of ["cart", "query", "k"]) if (told[name]) asked.set(name, told[name]);
    if (clicks.length === 1 && !clicks[0].includes(",")) asked.set("recent", clicks[0]);
    else if (clicks.length) for (const p of [...clicks, ""]) asked.append("recent", p);
    const locale = me.locale || document.documentElement.lang;
    if (locale) asked.set("locale", locale);
    try {
      const answer = await call(`/recommendations?${asked}`);
      if (!answer.ok) return;
      const list = await answer.json();
      const made = part("ul", "list");
      made.append(...list.items.map((item) => card(list, item, told.linkTarget)));
      element.replaceChildren(...(list.items.length ? [made] : []));
      element.hidden = !list.items.length;
      if (list.items.length) seen(element, () => report("view_item_list", list, list.items));
    } catch { /* no network, no list: the page stays as it is */ }
  };

  const start = () => {
    for (const element of document.querySelectorAll("[data-recommend]")) show(element);
    viewed(me.product);
  };
  window.ControlTower = { show, viewed };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
