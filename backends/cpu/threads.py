"""Threads for large steps: a pool of parked workers, written as LLVM IR, that native code calls.

``funtorch_parallel(run, closure, parts, grain, threads)`` calls ``run(closure, lo, hi)`` for pieces
of ``grain`` parts until all are done. The pieces depend on sizes alone, and whoever is awake takes
the next one, so a busy machine delays nothing and results never depend on the number of threads.
One caller at a time has the pool; others, and calls from within, do their pieces themselves.

A job is published by a ticket: (job number << 32 | next piece). Taking a piece is one
compare-and-swap of the ticket, which fails when the job is no longer the one whose fields were
read; while the fields change, the ticket has an odd number and no pieces. Workers look for a new
job for some microseconds and then sleep on a condition variable.
"""

from __future__ import annotations

import functools
import os
import sys

from funtorch.config import config

__all__ = ["POOL_SYMBOLS", "default_threads", "pool_text", "thread_count"]

POOL_SYMBOLS = ("funtorch_parallel", "funtorch_forked")
_SPIN = 2000  # looks for a new job, with a pause each, before a worker goes to sleep
_WAIT = 4000  # looks for the end of the last pieces before the caller yields its processor
_WORKERS = 256  # most threads


@functools.cache
def default_threads() -> int:
    """Return FUNTORCH_NUM_THREADS, OMP_NUM_THREADS, or how many processors this process has."""
    for name in ("FUNTORCH_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text.isdecimal() and int(text) > 0:
            return int(text)
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def thread_count() -> int:
    """Return how many threads a step may run on now."""
    return config.threads or default_threads()


def pool_text(machine: str) -> str:
    """Return the module of the pool for a processor ('x86_64', 'aarch64', ...).

    Where there are no POSIX threads, every job runs on its caller. Jobs are long, so the pool is
    not worth the time of optimising it (optnone).
    """
    if sys.platform == "win32":
        return _SERIAL
    pause = {
        "x86_64": ("call void @llvm.x86.sse2.pause()", "declare void @llvm.x86.sse2.pause()"),
        "aarch64": ("call void @llvm.aarch64.hint(i32 1)", "declare void @llvm.aarch64.hint(i32)"),
    }.get(machine, ("", ""))
    return _POOL.replace("PAUSE_DECLARED", pause[1]).replace("PAUSE", pause[0])


_PIECES = """
define internal void @alone(ptr %run, ptr %closure, i64 %parts, i64 %grain)
    noinline optnone nounwind {
entry:
  br label %loop
loop:
  %lo = phi i64 [ 0, %entry ], [ %next, %loop ]
  %next = add i64 %lo, %grain
  %hi = call i64 @llvm.smin.i64(i64 %next, i64 %parts)
  call void %run(ptr %closure, i64 %lo, i64 %hi)
  %more = icmp slt i64 %next, %parts
  br i1 %more, label %loop, label %done
done:
  ret void
}
declare i64 @llvm.smin.i64(i64, i64)
"""

_SERIAL = (
    _PIECES
    + """
define void @funtorch_parallel(ptr %run, ptr %closure, i64 %parts, i64 %grain, i32 %threads)
    noinline optnone nounwind {
  call void @alone(ptr %run, ptr %closure, i64 %parts, i64 %grain)
  ret void
}
define void @funtorch_forked() noinline optnone nounwind {
  ret void
}
"""
)

_POOL = (
    _PIECES
    + f"""
; What changes often lies on cache lines of its own.
@ticket = internal global i64 0, align 128
@finished = internal global i64 0, align 128
@asleep = internal global i32 0, align 128
@busy = internal global i32 0, align 128
@run = internal global ptr null, align 128
@closure = internal global ptr null
@parts = internal global i64 0
@grain = internal global i64 1
@pieces = internal global i64 0
@helpers = internal global i32 0
@workers = internal global i32 0
@ready = internal global i32 0
@mutex = internal global [128 x i8] zeroinitializer, align 64
@wake = internal global [128 x i8] zeroinitializer, align 64

declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_detach(ptr)
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
declare i32 @sched_yield()
PAUSE_DECLARED

; Take pieces of job %job until none is left; return how many were done.
define internal void @take(i64 %job) noinline optnone nounwind {{
entry:
  br label %look
look:
  %ticket = load atomic i64, ptr @ticket seq_cst, align 8
  %number = lshr i64 %ticket, 32
  %current = icmp eq i64 %number, %job
  br i1 %current, label %read, label %done
read:
  %run = load atomic ptr, ptr @run monotonic, align 8
  %closure = load atomic ptr, ptr @closure monotonic, align 8
  %parts = load atomic i64, ptr @parts monotonic, align 8
  %grain = load atomic i64, ptr @grain monotonic, align 8
  %pieces = load atomic i64, ptr @pieces monotonic, align 8
  %piece = and i64 %ticket, 4294967295
  %left = icmp ult i64 %piece, %pieces
  br i1 %left, label %claim, label %done
claim:
  %following = add i64 %ticket, 1
  %swap = cmpxchg ptr @ticket, i64 %ticket, i64 %following seq_cst seq_cst
  %mine = extractvalue {{ i64, i1 }} %swap, 1
  br i1 %mine, label %work, label %look
work:
  %lo = mul i64 %piece, %grain
  %end = add i64 %lo, %grain
  %hi = call i64 @llvm.smin.i64(i64 %end, i64 %parts)
  call void %run(ptr %closure, i64 %lo, i64 %hi)
  %before = atomicrmw add ptr @finished, i64 1 seq_cst
  br label %look
done:
  ret void
}}

define internal ptr @worker(ptr %which) noinline optnone nounwind {{
entry:
  %me = ptrtoint ptr %which to i64
  %index = trunc i64 %me to i32
  br label %idle
idle:
  %seen = phi i64 [ 0, %entry ], [ %job, %join ], [ %job, %skip ], [ %slept, %awake ]
  br label %spin
spin:
  %k = phi i32 [ 0, %idle ], [ %k1, %still ]
  %ticket = load atomic i64, ptr @ticket seq_cst, align 8
  %job = lshr i64 %ticket, 32
  %new = icmp ne i64 %job, %seen
  br i1 %new, label %found, label %still
still:
  PAUSE
  %k1 = add i32 %k, 1
  %again = icmp slt i32 %k1, {_SPIN}
  br i1 %again, label %spin, label %sleep
sleep:
  call i32 @pthread_mutex_lock(ptr @mutex)
  atomicrmw add ptr @asleep, i32 1 seq_cst
  br label %check
check:
  %t = load atomic i64, ptr @ticket seq_cst, align 8
  %j = lshr i64 %t, 32
  %changed = icmp ne i64 %j, %seen
  br i1 %changed, label %awake, label %wait
wait:
  call i32 @pthread_cond_wait(ptr @wake, ptr @mutex)
  br label %check
awake:
  %slept = phi i64 [ %seen, %check ]
  atomicrmw sub ptr @asleep, i32 1 seq_cst
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %idle
found:
  %helpers = load atomic i32, ptr @helpers monotonic, align 4
  %wanted = icmp slt i32 %index, %helpers
  br i1 %wanted, label %join, label %skip
join:
  call void @take(i64 %job)
  br label %idle
skip:
  br label %idle
}}

; Start threads until there are %wanted, under the lock @busy; where one fails, there are fewer.
define internal void @hire(i32 %wanted) noinline optnone nounwind {{
entry:
  %id = alloca [16 x i8], align 16
  %known = load i32, ptr @ready
  %fresh = icmp eq i32 %known, 0
  br i1 %fresh, label %init, label %loop
init:
  call i32 @pthread_mutex_init(ptr @mutex, ptr null)
  call i32 @pthread_cond_init(ptr @wake, ptr null)
  store i32 1, ptr @ready
  br label %loop
loop:
  %have = load i32, ptr @workers
  %few = icmp slt i32 %have, %wanted
  br i1 %few, label %create, label %done
create:
  %wide = sext i32 %have to i64
  %which = inttoptr i64 %wide to ptr
  %code = call i32 @pthread_create(ptr %id, ptr null, ptr @worker, ptr %which)
  %failed = icmp ne i32 %code, 0
  br i1 %failed, label %done, label %born
born:
  %thread = load ptr, ptr %id
  call i32 @pthread_detach(ptr %thread)
  %more = add i32 %have, 1
  store i32 %more, ptr @workers
  br label %loop
done:
  ret void
}}

define void @funtorch_parallel(ptr %run, ptr %closure, i64 %parts, i64 %grain, i32 %threads)
    noinline optnone nounwind {{
entry:
  %several = icmp sgt i32 %threads, 1
  %divisible = icmp sgt i64 %parts, %grain
  %shared = and i1 %several, %divisible
  br i1 %shared, label %try, label %serial
try:
  %swap = cmpxchg ptr @busy, i32 0, i32 1 seq_cst seq_cst
  %free = extractvalue {{ i32, i1 }} %swap, 1
  br i1 %free, label %have, label %serial
serial:
  call void @alone(ptr %run, ptr %closure, i64 %parts, i64 %grain)
  ret void
have:
  %more = sub i32 %threads, 1
  %helpers = call i32 @llvm.smin.i32(i32 %more, i32 {_WORKERS})
  %workers = load i32, ptr @workers
  %few = icmp slt i32 %workers, %helpers
  br i1 %few, label %start, label %publish
start:
  call void @hire(i32 %helpers)
  br label %publish
publish:
  %up = add i64 %parts, %grain
  %round = sub i64 %up, 1
  %pieces = udiv i64 %round, %grain
  %old = load atomic i64, ptr @ticket monotonic, align 8
  %last = lshr i64 %old, 32
  %shut = add i64 %last, 1
  %odd = shl i64 %shut, 32
  %closed = or i64 %odd, 4294967295
  store atomic i64 %closed, ptr @ticket seq_cst, align 8
  store atomic ptr %run, ptr @run monotonic, align 8
  store atomic ptr %closure, ptr @closure monotonic, align 8
  store atomic i64 %parts, ptr @parts monotonic, align 8
  store atomic i64 %grain, ptr @grain monotonic, align 8
  store atomic i32 %helpers, ptr @helpers monotonic, align 4
  store atomic i64 0, ptr @finished monotonic, align 8
  %job = add i64 %last, 2
  %short = and i64 %job, 4294967295
  %ticket = shl i64 %short, 32
  store atomic i64 %pieces, ptr @pieces release, align 8
  store atomic i64 %ticket, ptr @ticket seq_cst, align 8
  %asleep = load atomic i32, ptr @asleep seq_cst, align 4
  %sleeping = icmp sgt i32 %asleep, 0
  br i1 %sleeping, label %rouse, label %help
rouse:
  call i32 @pthread_mutex_lock(ptr @mutex)
  call i32 @pthread_cond_broadcast(ptr @wake)
  call i32 @pthread_mutex_unlock(ptr @mutex)
  br label %help
help:
  call void @take(i64 %short)
  br label %spin
spin:
  %k = phi i32 [ 0, %help ], [ %k1, %still ], [ 0, %yield ]
  %finished = load atomic i64, ptr @finished seq_cst, align 8
  %all = icmp eq i64 %finished, %pieces
  br i1 %all, label %done, label %still
still:
  PAUSE
  %k1 = add i32 %k, 1
  %again = icmp slt i32 %k1, {_WAIT}
  br i1 %again, label %spin, label %yield
yield:
  call i32 @sched_yield()
  br label %spin
done:
  store atomic i32 0, ptr @busy seq_cst, align 4
  ret void
}}
declare i32 @llvm.smin.i32(i32, i32)

; In a child process the workers are gone.
define void @funtorch_forked() noinline optnone nounwind {{
  store i32 0, ptr @workers
  store i32 0, ptr @ready
  store atomic i32 0, ptr @asleep seq_cst, align 4
  store atomic i32 0, ptr @busy seq_cst, align 4
  ret void
}}
"""
)
