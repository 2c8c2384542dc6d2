const page = document.getElementById("swagger-ui");
SwaggerUIBundle({ url: new URL(page.dataset.document, location.href).href, domNode: page, deepLinking: true, validatorUrl: null });
