"""Jobs: their list, and the page of one."""

from __future__ import annotations

from tornado.web import HTTPError

from cgk_tasks.dashboard.data.events_and_jobs import job_view, listed_jobs
from cgk_tasks.dashboard.data.work import SPANS, work_of_job
from cgk_tasks.dashboard.data.work_charts import charts_of_work
from cgk_tasks.dashboard.display import segment
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.dashboard.run_query import search_for


class JobsPage(Page):
    """The list, with what a day brought."""

    async def get(self) -> None:
        jobs = await self.run_blocking(listed_jobs)
        text = self.field("text")
        shown = [one for one in jobs if text.lower() in f"{one.id} {' '.join(one.events)}".lower()]
        self.show("jobs.html", jobs=shown, total=len(jobs), text=text, search_for=search_for)


class JobPage(Page):
    """One job: what it says about its runs, and how they went."""

    async def get(self, job_id: str) -> None:
        chosen = self.field("span") if self.field("span") in SPANS else "24h"
        view = await self.run_blocking(job_view, job_id)
        if view is None:
            raise HTTPError(404, f"There is no job {job_id[:80]!r} here, and none of its runs closed in the last days.")
        work = await self.run_blocking(work_of_job, job_id, SPANS[chosen])
        charts = list(charts_of_work(work.bars, work.whole, SPANS[chosen].bar, is_job=True)) if work else []
        self.show(
            "job.html", job=view, work=work, charts=charts, spans=SPANS, chosen=chosen, search_for=search_for,
            found=search_for(job=job_id), own_path=f"/jobs/{segment(job_id)}", is_job=True,
        )  # fmt: skip
