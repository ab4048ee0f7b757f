"use strict";

// Swagger UI has colours for the dark, and leaves it to the page when to use them.
const dark = matchMedia("(prefers-color-scheme: dark)");
const chooseColours = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", chooseColours);
chooseColours();

// Swagger UI fills every example in, and so would ask for the tenant, filters and pages of the examples. Those that may be
// left out are shown beside their field instead.
const parametersOf = (openapi) => [
  ...Object.values(openapi.components.parameters),
  ...Object.values(openapi.paths).flatMap(Object.values).flatMap((operation) => operation.parameters ?? []),
];
const showExample = (parameter) => {
  const { example, required } = parameter;
  if (example === undefined || required) return;
  delete parameter.example;
  parameter.description += ` Example: \`${typeof example === "string" ? example : JSON.stringify(example)}\`.`;
};
const optionalFieldsAreEmpty = () => ({
  statePlugins: {
    spec: {
      wrapActions: {
        updateJsonSpec: (original) => (openapi) => {
          parametersOf(openapi).forEach(showExample);
          return original(openapi);
        },
      },
    },
  },
});

// Swagger UI shows an answer when it is complete, and a watch never is.
const watchesAreReadElsewhere = () => ({
  statePlugins: {
    spec: {
      wrapSelectors: {
        allowTryItOutFor: (original, system) => (state, path, method) =>
          !path.endsWith(":watch") && original(state, path, method),
      },
    },
  },
});

SwaggerUIBundle({
  url: "/api/openapi.yaml",
  dom_id: "#explorer",
  plugins: [optionalFieldsAreEmpty, watchesAreReadElsewhere],
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  // Tokens are forgotten with the page, and no server of others is asked about the document.
  persistAuthorization: false,
  validatorUrl: null,
});
