"use strict";
// Draws each chart at its place. Without JavaScript the tables hold the same figures.
(async () => {
  const { config, plots } = JSON.parse(document.getElementById("plots").textContent);
  // Expressions are interpreted and not compiled: the page allows no code from text.
  const options = {
    mode: "vega-lite", renderer: "svg", ast: true, actions: false, defaultStyle: false, config,
    tooltip: { disableDefaultStyle: true },
  };
  for (const [name, plot] of Object.entries(plots)) {
    const place = document.getElementById(name);
    try {
      await vegaEmbed(place, plot, options);
      // The place describes the chart; its hundreds of marks are not to be read out.
      place.querySelector("svg").setAttribute("aria-hidden", "true");
      place.dataset.drawn = "yes";
    } catch (error) {
      place.dataset.drawn = "no";
      place.textContent = `This chart could not be drawn (${error.message}). The table below has its figures.`;
      console.error(`${name}: ${error.stack}`);
    }
  }
  document.documentElement.dataset.drawn = "yes";
})();
