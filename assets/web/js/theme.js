// The theme lives in a cookie, so that the server writes it into <html> and the first paint is right.
const COOKIE = "brightrun_theme";
const SCHEMES = { light: "light", dark: "dark", system: "light dark" };

export function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.querySelector('meta[name="color-scheme"]').content = SCHEMES[theme];
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `${COOKIE}=${theme}; path=/; max-age=31536000; samesite=lax${secure}`;
  announce();
}

function announce() {
  document.dispatchEvent(new CustomEvent("brightrun:theme"));
}

document.addEventListener("click", (event) => {
  const choice = event.target.closest("[data-theme-choice]");
  if (choice) setTheme(choice.dataset.themeChoice);
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", announce);
