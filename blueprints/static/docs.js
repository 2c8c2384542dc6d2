const page = document.getElementById("swagger-ui");

// Swagger UI's own name for its dark looks; its switch for them is not on this page.
const isDark = matchMedia("(prefers-color-scheme: dark)");
const dress = () => document.documentElement.classList.toggle("dark-mode", isDark.matches);
isDark.addEventListener("change", dress);
dress();

// It gives its lists no names that can be read out.
function nameLists() {
  for (const list of page.querySelectorAll("select:not([aria-label])")) {
    list.ariaLabel = list.closest("[data-param-name]")?.dataset.paramName ?? (list.id === "servers" ? "Server" : "Media type");
  }
}
new MutationObserver(nameLists).observe(page, { childList: true, subtree: true });

SwaggerUIBundle({
  url: new URL(page.dataset.document, location.href).href,
  domNode: page,
  deepLinking: true,
  validatorUrl: null,
  syntaxHighlight: { theme: "obsidian" },
});
