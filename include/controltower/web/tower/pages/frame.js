if (parent !== self) {
  const outer = parent.document, shown = outer.documentElement;
  const follow = () => {
    const theme = ["dark", "light"].find((name) => shown.classList.contains(name));
    if (theme) document.documentElement.dataset.theme = theme;
  };
  follow();
  new MutationObserver(follow).observe(shown, { attributeFilter: ["class"] });
  addEventListener("click", (event) => {
    const link = event.target.closest("a[target=_top]");
    if (!link) return;
    event.preventDefault();
    const out = outer.createElement("a");
    out.href = link.href;
    out.click();
  });
}
