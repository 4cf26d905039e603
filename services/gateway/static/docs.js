/** Shows /v1/openapi.json with Swagger UI, whose bundle is loaded before this. */
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
