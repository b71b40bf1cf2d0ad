"""The tables of a Stage Two ablation, printed and as JSON."""

import json
from pathlib import Path

import torch

from eval.ablation_plan import Plan
from eval.ablation_store import Store
from eval.ablation_table import Column, markdown, markdown_differences, summary
from eval.stage2_truth import processor

COLUMNS = {
    "truth": (
        Column("psnr", "PSNR dB"),
        Column("ssim", "SSIM", 3),
        Column("share", "share of gap", 3),
        Column("iou", "IoU", 3),
        Column("delta_2", "delta 2 %", 1, 100),
        Column("delta_5", "delta 5 %", 1, 100),
        Column("delta_10", "delta 10 %", 1, 100),
        Column("distance", "distance, % of diagonal", 2, 100, -1),
        Column("color", "colour error, /255", 2, 255, -1),
        Column("arap", "ARAP energy", 3, 1, 0),
        Column("jitter", "jitter", 2, 1, -1),
        Column("cpu_seconds", "CPU-s", 1, 1, -1),
    ),
    "generated": (
        Column("fit_psnr", "PSNR dB, fitted views"),
        Column("fit_ssim", "SSIM", 3),
        Column("fit_iou", "IoU", 3),
        Column("agreement", "agreement dB, held-out views"),
        Column("color_drift", "colour drift, /255", 2, 255, -1),
        Column("area_drift", "area drift", 3, 1, -1),
        Column("area_error", "area error", 3, 1, -1),
        Column("arap", "ARAP energy", 3, 1, 0),
        Column("jitter", "jitter", 2, 1, -1),
        Column("jitter_pictures", "jitter of pictures", 2, 1, -1),
        Column("cpu_seconds", "CPU-s", 1, 1, -1),
    ),
}


MAIN = {"truth": ("psnr", "ssim", "share"), "generated": ("fit_psnr", "agreement")}
COMPARED = {
    "truth": ("psnr", "ssim", "share", "iou", "delta_5", "color"),
    "generated": ("fit_psnr", "agreement", "color_drift", "area_drift", "jitter"),
}


def report(plan: Plan, out: Path | None) -> None:
    """Prints the tables of what is finished and writes everything as JSON."""
    store = Store(plan.work)
    records = plan.records(store)
    groups = {"all": [case.name for case in plan.cases]}
    groups |= {g: [c.name for c in plan.cases if c.group == g] for g in dict.fromkeys(c.group for c in plan.cases)}
    rows = [row for row in plan.rows if any(r == row for r, _, _ in records)]
    # Without both bounds no row has a share.
    columns = [c for c in COLUMNS[plan.mode] if all(c.key in figures for figures in records.values())]
    result = summary(records, rows, columns, groups, plan.seeds)
    shown = list(groups) if plan.mode == "truth" else ["all"]  # groups of one or two generated clips say little
    told = ", ".join(f"{name} {len(cases)}" for name, cases in groups.items())
    print(f"\nMeans with 95 % intervals over cases ({told}) and seeds {plan.seeds}\n")
    main = [column for column in columns if column.key in MAIN[plan.mode]]
    print(markdown(result, main, shown))
    print("\nFurther measures, all cases\n")
    print(markdown(result, [column for column in columns if column not in main], ["all"], intervals=False))
    print("\nPaired differences to full; bold where the interval of three or more cases leaves out zero\n")
    chosen = [column for column in columns if column.key in COMPARED[plan.mode]]
    print(markdown_differences(result, chosen, shown))
    lines = [line for line in store.read().values() if line["key"] in plan.keys()]
    zero = [value for line in lines for value in line.get("frame_zero", {}).values()]
    print(f"\nLargest difference of frame 0 from the static object over {len(lines)} lines: {max(zero, default=0.0)}")
    now = {row: plan.source(row) for row in plan.rows}
    stale = sum(line["source"] != now[line["row"]] for line in lines)
    if stale:
        print(f"{stale} of {len(lines)} lines were made by other code of t4d/motion or t4d/splat than is here now")
    if out is None:
        return
    content = {
        "mode": plan.mode,
        "protocol": {
            "overrides": plan.overrides,
            "full": plan.base.model_dump(mode="json", include={"geometry", "splat", "stage1", "stage2"}),
            "rows": {row: config.variant for row, config in plan.configs.items()},
            "cases": [{**vars(case), "name": case.name} for case in plan.cases],
            "seeds": plan.seeds,
            "intervals": "95 % two-way cluster bootstrap over cases and seeds, 10000 draws",
        },
        "model": plan.model_sha256,
        "lines_of_other_source": stale,
        "commits": sorted({line["commit"] for line in lines}),
        "hardware": processor(),
        "threads": plan.threads,
        "torch": torch.__version__,
        "frame_zero_difference": max(zero, default=0.0),
        "summary": result,
    }
    text = json.dumps(content, indent=1)
    fits = ",\n  ".join(json.dumps(line) for line in lines)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{text[:-2]},\n "fits": [\n  {fits}\n ]\n}}\n')
