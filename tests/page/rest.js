// What moves on in Gradio's page when it has loaded: the clock of the first loading bar, for ever, and its picture, for
// seconds, with every frame that the browser draws. The bar is gone then: while no other is seen, both take their time.

(() => {
    const PAUSE = 250;  // milliseconds
    const MOVES = /performance\.now\(\)|\.tasks\.forEach/;  // that clock; all that moves by Svelte
    const BAR = "[data-testid=status-tracker]:not(.hide)";

    const frame = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (callback) => frame(MOVES.test(callback) ? resting(callback) : callback);

    function resting(tick) {
        return (now) => document.querySelector(BAR) ? tick(now) : setTimeout(() => tick(performance.now()), PAUSE);
    }
})();
