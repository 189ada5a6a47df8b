// (selectors) => [[selector, text, contrast], ...] of all that is seen of them in listing and strip, after WCAG 2.2; it goes into the page.
(selectors) => {
    const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1});
    const pen = canvas.getContext('2d', {willReadFrequently: true});
    const read = (color) => {  // any CSS colour as [r, g, b, a]
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = color;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((part, n) => part * a + under[n] * (1 - a));
    const light = (color) => {
        const [r, g, b] = color.map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (node) => {
        const layers = [];
        for (let each = node; each; each = each.parentElement) layers.unshift(read(getComputedStyle(each).backgroundColor));
        return layers.reduce((under, layer) => over(layer, under), [255, 255, 255]);
    };
    const ratio = (node) => {
        const under = ground(node);
        const [a, b] = [light(over(read(getComputedStyle(node).color), under)), light(under)].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    };
    const said = [];
    for (const selector of selectors) {
        const nodes = [...document.querySelectorAll(`:is(.lora-listing, .lora-strip) :is(${selector})`)].filter((node) => (node.offsetParent || node.ownerSVGElement?.clientWidth) && !node.disabled);
        for (const node of nodes) said.push([selector, node.textContent.slice(0, 30), ratio(node)]);
        if (nodes.length === 0) said.push([selector, 'is not there', 0]);
    }
    return said;
}
