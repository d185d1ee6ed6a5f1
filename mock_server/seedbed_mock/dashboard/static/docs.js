// Shows an OpenAPI document of this server with Swagger UI.
"use strict";
document.documentElement.classList.toggle("dark-mode", matchMedia("(prefers-color-scheme: dark)").matches);
SwaggerUIBundle({
  url: document.getElementById("api").dataset.url,
  dom_id: "#api",
  // Its default is a service on the web that validates documents.
  validatorUrl: null,
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
});
