// What the pages need beyond htmx: opening rows, sending forms, copying, and keeping an opened task up to date.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const url = () => new URL(location.href);
  const pages = "/__seedbed/dashboard";
  let refreshed = 0;
  let timer = 0;

  function mark() {
    const opened = url().searchParams.get("opened");
    for (const link of document.querySelectorAll("#list [data-open]")) {
      if (link.dataset.open === opened) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    document.body.classList.toggle("has-details", Boolean(opened));
  }

  async function show(opened, { focus = true, swap = "innerHTML" } = {}) {
    const query = url().searchParams;
    query.set("opened", opened);
    await htmx.ajax("GET", `${pages}/details?${query}`, { target: "#details", swap });
    if (focus) byId("details").querySelector("h2")?.focus();
  }

  function open(opened) {
    const to = url();
    if (opened) to.searchParams.set("opened", opened);
    else to.searchParams.delete("opened");
    history.replaceState(null, "", to);
    const left = document.querySelector("#list [aria-current]");
    mark();
    if (opened) return show(opened);
    byId("details").replaceChildren();
    (left ?? byId("list")).focus();
  }

  // An opened task moves on. It is fetched once a second at most, and not while someone types or selects in it.
  function refresh() {
    const opened = url().searchParams.get("opened");
    const details = byId("details");
    if (!opened || !details.querySelector("[data-live]") || timer) return;
    timer = setTimeout(() => {
      timer = 0;
      refreshed = Date.now();
      const selected = getSelection();
      const isBusy = details.contains(document.activeElement?.closest("input, form"))
        || (!selected.isCollapsed && details.contains(selected.anchorNode));
      if (!isBusy) show(opened, { focus: false, swap: "innerMorph" });
    }, Math.max(0, 1000 - (Date.now() - refreshed)));
  }

  async function act(form, submitter) {
    if (form.dataset.confirm && !confirm(form.dataset.confirm)) return;
    const values = Object.fromEntries(new FormData(form, submitter));
    await htmx.ajax("POST", form.action, { target: "#notice", swap: "innerHTML", values });
    for (const input of form.querySelectorAll("input[name=rules]")) input.value = "";
    refreshed = 0;
    if (form.contains(document.activeElement)) document.activeElement.blur();
    refresh();
  }

  async function copy(button) {
    const text = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      // Only secure contexts have a clipboard, which a server on another machine is not.
      getSelection().selectAllChildren(text);
      button.textContent = "Selected; press Ctrl-C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }

  document.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    const link = event.target.closest("[data-open], [data-close]");
    const button = event.target.closest("[data-copy]");
    if (link) {
      event.preventDefault();
      open(link.dataset.open ?? "");
    } else if (button) copy(button);
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("[data-action]")) return;
    event.preventDefault();
    act(event.target, event.submitter);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit]")) event.target.form.submit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, select, textarea") || event.ctrlKey || event.altKey || event.metaKey) return;
    const rows = [...document.querySelectorAll("#list [data-open]")];
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (step && rows.length && !byId("details").contains(event.target)) {
      event.preventDefault();
      const next = rows.indexOf(document.activeElement) + step;
      rows[Math.min(Math.max(next, 0), rows.length - 1)].focus();
    } else if (event.key === "Escape" && url().searchParams.has("opened")) open("");
  });
  document.addEventListener("htmx:sse:after:message", () => { mark(); refresh(); });
  document.addEventListener("htmx:sse:after:connection", () => { byId("offline").hidden = true; });
  for (const name of ["htmx:sse:error", "htmx:sse:close"]) {
    document.addEventListener(name, () => { byId("offline").hidden = false; });
  }
  mark();
})();
