// Runs before the first paint: theme and language, so that neither flashes.
(() => {
  const kept = (name) => {
    try {
      return localStorage.getItem(`steadyocr.${name}`);
    } catch {
      return null;
    }
  };
  const root = document.documentElement;
  const theme = kept('theme');
  if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
  const wanted = kept('language') ?? navigator.language ?? 'en';
  const language = wanted.toLowerCase().startsWith('zh') ? 'zh' : 'en';
  root.lang = language === 'zh' ? 'zh-CN' : 'en';
  window.steadyocr = { language, strings: fetch(`ui/i18n/${language}.json`).then((answer) => answer.json()) };
})();
