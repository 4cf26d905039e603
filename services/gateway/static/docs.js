/** Shows /v1/openapi.json with Swagger UI. The page loads the bundle of Swagger UI before this file. */
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
