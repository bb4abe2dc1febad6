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
  // Without them nothing is shown, and a service that restarts is back in a moment.
  const load = async (tries) => {
    try {
      const answer = await fetch(`ui/i18n/${language}.json`);
      if (answer.ok) return await answer.json();
      throw new Error(`HTTP ${answer.status}`);
    } catch (error) {
      if (!tries) throw error;
      await new Promise((go) => setTimeout(go, 1000));
      return load(tries - 1);
    }
  };
  window.steadyocr = { language, strings: load(9) };
})();
