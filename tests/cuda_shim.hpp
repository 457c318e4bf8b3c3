// CUDA C++ on the CPU, for tests: every thread of a block is a fiber, memory is checked.
//
// A block's threads run one after the other, each as far as the next barrier or shuffle, in an
// order that the caller chooses: whoever relies on others having come further reads what is not
// there yet. Every access is checked: it must lie in its buffer, be aligned, not read what nobody
// wrote (shared memory, scratch), and not meet an access of another thread that no barrier divides
// from it (races, in shared memory and in global memory).
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <type_traits>
#include <unordered_map>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __constant__ static const
#define __align__(n) alignas(n)

typedef unsigned long long shim_u64;

struct Place3 { int x, y, z; };
static Place3 threadIdx, blockIdx, blockDim, gridDim;

// ------------------------------------------------------------------------------ errors
static char shim_message[600];

static void shim_fail(const char* what, const char* where, long long at, int other = -1) {
  if (shim_message[0]) return;
  int n = snprintf(shim_message, sizeof shim_message, "%s: %s at byte %lld, thread %d of block %d,%d,%d",
                   what, where, at, threadIdx.x, blockIdx.x, blockIdx.y, blockIdx.z);
  if (other >= 0)
    snprintf(shim_message + n, sizeof shim_message - n, ", other thread %d of block %d",
             other % blockDim.x, other / blockDim.x);
}

// ------------------------------------------------------------------------------ fibers
enum State { READY, AT_BARRIER, AT_WARP, DONE };

struct Fiber {
  ucontext_t context;
  void* stack_pointer;
  char* stack;
  State state;
  int epoch, warp_epoch, shuffles;
  int site;
};

static const size_t STACK = 1 << 16;
static std::vector<Fiber> fibers;
static Fiber* current;
static bool shim_fibers;
static void (*shim_kernel)();

#if defined(__x86_64__)
extern "C" void shim_switch(void** save, void* load);
__asm__(R"(
.text
.local shim_switch
.type shim_switch, @function
shim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size shim_switch, .-shim_switch
)");
static void* main_pointer;
static void shim_enter(Fiber& f) { shim_switch(&main_pointer, f.stack_pointer); }
static void shim_leave(Fiber& f) { shim_switch(&f.stack_pointer, main_pointer); }
static void shim_body() {
  shim_kernel();
  current->state = DONE;
  for (;;) shim_leave(*current);
}
static void shim_begin(Fiber& f) {
  void** top = (void**)(f.stack + STACK - 64);
  *--top = nullptr;
  *--top = (void*)shim_body;
  for (int k = 0; k < 6; k++) *--top = nullptr;
  f.stack_pointer = top;
}
#else
static ucontext_t main_context;
static void shim_enter(Fiber& f) { swapcontext(&main_context, &f.context); }
static void shim_leave(Fiber& f) { swapcontext(&f.context, &main_context); }
static void shim_body() {
  shim_kernel();
  current->state = DONE;
  for (;;) shim_leave(*current);
}
static void shim_begin(Fiber& f) {
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = STACK;
  f.context.uc_link = nullptr;
  makecontext(&f.context, shim_body, 0);
}
#endif

static void shim_wait(State state, int site) {
  Fiber& me = *current;
  const int mine = threadIdx.x;
  if (!shim_fibers) {
    shim_fail("a barrier in a kernel that was said to have none", "site", site);
    return;
  }
  me.state = state;
  me.site = site;
  shim_leave(me);
  threadIdx.x = mine;
}

static void shim_barrier(int site) {
  shim_wait(AT_BARRIER, site);
  current->epoch++;
}
#define __syncthreads() shim_barrier(__LINE__)
#define __syncwarp() (shim_wait(AT_WARP, __LINE__), (void)current->warp_epoch++)

static shim_u64 exchange[32][2][32];

template <class T> static T shim_exchange(T value, int from, int site) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto& held = exchange[warp][current->shuffles++ % 2];
  memcpy(&held[lane], &value, sizeof value);
  shim_wait(AT_WARP, site);
  if (warp * 32 + from >= blockDim.x) shim_fail("a shuffle from no thread", "warp", warp);
  memcpy(&value, &held[from], sizeof value);
  return value;
}

template <class T> static T __shfl_xor_sync(unsigned, T value, int distance) {
  return shim_exchange(value, threadIdx.x % 32 ^ distance, -1 - distance);
}

template <class T> static T __shfl_up_sync(unsigned, T value, int distance) {
  const int lane = threadIdx.x % 32;
  return shim_exchange(value, lane < distance ? lane : lane - distance, -100 - distance);
}

template <class T> static T __shfl_sync(unsigned, T value, int from) {
  return shim_exchange(value, from, -200);
}

// ------------------------------------------------------------------------------ checked memory
struct Mark {
  int stamp = 0;          // of the launch, or of the block, that the rest is about
  int writer = -1, epoch = 0, warp_epoch = 0;
  int reader = -1, read_epoch = 0, read_warp_epoch = 0;
  bool many = false;      // several readers since the last barrier
  bool foreign = false;   // readers of several blocks
  bool atomic = false;
  bool held = false;      // something was written, in this launch or before
};

struct Region {
  const char* name;
  char* base;
  long long bytes;
  int fresh;              // whether reading what nobody wrote is an error
  std::vector<Mark>* marks;
};

static int shim_stamp;

static int shim_me() {
  return ((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
}

static bool shim_apart(int other, int epoch, int warp_epoch) {
  const int me = shim_me();
  if (other == me) return true;
  if (other / blockDim.x != me / blockDim.x) return false;
  if (epoch < current->epoch) return true;
  return other % blockDim.x / 32 == (int)threadIdx.x / 32 && warp_epoch < current->warp_epoch;
}

static Mark* shim_mark(Region* r, long long at) {
  Mark& m = (*r->marks)[at];
  if (m.stamp != shim_stamp) {
    const bool held = m.held;
    m = Mark();
    m.held = held;
    m.stamp = shim_stamp;
  }
  return &m;
}

static bool shim_inside(Region* r, long long at, long long size, long long align) {
  if (at < 0 || at + size > r->bytes) {
    shim_fail("an access out of bounds", r->name, at);
    return false;
  }
  if ((uintptr_t)(r->base + at) % align) {
    shim_fail("an access that is not aligned", r->name, at);
    return false;
  }
  return true;
}

static void shim_read(Region* r, long long at) {
  Mark* m = shim_mark(r, at);
  if (r->fresh && !m->held) shim_fail("a read of what nobody wrote", r->name, at);
  if (m->writer >= 0 && !shim_apart(m->writer, m->epoch, m->warp_epoch))
    shim_fail("a race of a read with a write", r->name, at, m->writer);
  if (m->reader >= 0 && m->reader != shim_me()) {
    m->foreign = m->foreign || m->reader / blockDim.x != shim_me() / blockDim.x;
    m->many = true;
  }
  if (m->reader >= 0 && m->read_epoch < current->epoch) m->many = false;
  m->reader = shim_me();
  m->read_epoch = current->epoch;
  m->read_warp_epoch = current->warp_epoch;
}

static void shim_write(Region* r, long long at, bool atomic = false) {
  Mark* m = shim_mark(r, at);
  if (m->writer >= 0 && !(atomic && m->atomic) && !shim_apart(m->writer, m->epoch, m->warp_epoch))
    shim_fail("a race of two writes", r->name, at, m->writer);
  if (m->reader >= 0 && !shim_apart(m->reader, m->read_epoch, m->read_warp_epoch))
    shim_fail("a race of a write with a read", r->name, at, m->reader);
  if (m->foreign || (m->many && m->read_epoch >= current->epoch &&
                     m->read_warp_epoch >= current->warp_epoch))
    shim_fail("a race of a write with reads", r->name, at);
  m->writer = shim_me();
  m->epoch = current->epoch;
  m->warp_epoch = current->warp_epoch;
  m->atomic = atomic;
  m->held = true;
}

template <class T> struct Ref {
  typedef typename std::remove_const<T>::type Plain;
  Region* region;
  long long at;
  operator Plain() const {
    if (!shim_inside(region, at, sizeof(T), sizeof(T))) return Plain();
    shim_read(region, at);
    return *(Plain*)(region->base + at);
  }
  Ref& operator=(Plain value) {
    static_assert(!std::is_const<T>::value, "a write to what is only read");
    if (shim_inside(region, at, sizeof(T), sizeof(T))) {
      shim_write(region, at);
      *(Plain*)(region->base + at) = value;
    }
    return *this;
  }
  Ref& operator=(const Ref& other) { return *this = (Plain)other; }
};

template <class T> struct Checked {
  typedef typename std::remove_const<T>::type Plain;
  Region* region;
  long long at;
  operator Checked<const T>() const { return {region, at}; }
  Checked operator+(long long n) const { return {region, at + n * (long long)sizeof(T)}; }
  Ref<T> operator[](long long n) const { return {region, at + n * (long long)sizeof(T)}; }
  T* place(long long n) const {
    const long long there = at + n * (long long)sizeof(T);
    static unsigned long long nowhere[2];
    if (!shim_inside(region, there, sizeof(T), sizeof(T))) return (T*)nowhere;
    shim_write(region, there, true);
    return (T*)(region->base + there);
  }
};

template <class T, int N> struct Vector;

template <int N, class T>
static Vector<typename std::remove_const<T>::type, N> load_vector(Checked<T> p) {
  typedef Vector<typename std::remove_const<T>::type, N> Out;
  Out out = {};
  if (!shim_inside(p.region, p.at, sizeof(Out), alignof(Out))) return out;
  for (int k = 0; k < N; k++) out.x[k] = p[k];
  return out;
}

template <class T, int N> static void store_vector(Checked<T> p, Vector<T, N> v) {
  if (!shim_inside(p.region, p.at, sizeof v, alignof(Vector<T, N>))) return;
  for (int k = 0; k < N; k++) p[k] = v.x[k];
}

static Region shim_block_memory = {"shared memory", nullptr, 0, 1, nullptr};

template <class T, class P> static Checked<T> shim_part(P whole, long long offset, long long) {
  return {whole.region, whole.at + offset};
}

#define GLOBAL(T) Checked<T>
#define PART(T, name, whole, offset, count) Checked<T> name = shim_part<T>(whole, offset, count)
#define SHARED(T, name, offset, count) Checked<T> name = {&shim_block_memory, offset}
#define PLACE(memory, at) ((memory).place(at))

// ------------------------------------------------------------------------------ functions
static inline unsigned __float_as_uint(float x) { unsigned u; memcpy(&u, &x, 4); return u; }
static inline float __uint_as_float(unsigned u) { float x; memcpy(&x, &u, 4); return x; }
static inline long long __double_as_longlong(double x) {
  long long u; memcpy(&u, &x, 8); return u;
}
static inline double __longlong_as_double(long long u) { double x; memcpy(&x, &u, 8); return x; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(shim_u64 x) { return __builtin_popcountll(x); }
static inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(shim_u64 x) { return x ? __builtin_clzll(x) : 64; }
template <class T, class V> static T atomicAdd(T* p, V v) { T old = *p; *p = old + (T)v; return old; }
template <class T, class V> static T atomicMax(T* p, V v) {
  T old = *p; if ((T)v > old) *p = (T)v; return old;
}
template <class T, class V> static T atomicMin(T* p, V v) {
  T old = *p; if ((T)v < old) *p = (T)v; return old;
}
template <class T> static T atomicCAS(T* p, T old, T next) {
  T held = *p; if (held == old) *p = next; return held;
}

// ------------------------------------------------------------------------------ launches
static const int SHIM_MOST = 512;
static Region shim_regions[SHIM_MOST];

static void shim_run_block(int threads, int order) {
  static unsigned seed = 12345;
  for (int k = 0; k < threads; k++) {
    Fiber& f = fibers[k];
    f.state = READY;
    f.epoch = f.warp_epoch = f.shuffles = 0;
    if (shim_fibers) shim_begin(f);
  }
  std::vector<int> turn(threads);
  for (int k = 0; k < threads; k++) turn[k] = order == 1 ? threads - 1 - k : k;
  if (order == 2)
    for (int k = threads - 1; k > 0; k--) {
      seed = seed * 1664525u + 1013904223u;
      int j = (seed >> 8) % (k + 1), held = turn[k];
      turn[k] = turn[j];
      turn[j] = held;
    }
  if (!shim_fibers) {
    for (int k : turn) {
      current = &fibers[k];
      threadIdx.x = k;
      shim_kernel();
    }
    return;
  }
  for (;;) {
    int done = 0, at_barrier = 0, site = 0;
    for (int k : turn) {
      current = &fibers[k];
      if (current->state == READY) {
        threadIdx.x = k;
        shim_enter(*current);
      }
    }
    bool same = true, moved = false;
    for (int k = 0; k < threads; k++) {
      Fiber& f = fibers[k];
      done += f.state == DONE;
      if (f.state == AT_BARRIER) {
        same = same && (!at_barrier || f.site == site);
        site = f.site;
        at_barrier++;
      }
    }
    if (done == threads) return;
    for (int w = 0; w < threads; w += 32) {
      const int end = w + 32 < threads ? w + 32 : threads;
      bool all = true;
      for (int k = w; k < end; k++)
        all = all && fibers[k].state == AT_WARP && fibers[k].site == fibers[w].site;
      for (int k = w; all && k < end; k++) fibers[k].state = READY;
      moved = moved || all;
    }
    if (!moved && at_barrier == threads && same) {
      for (Fiber& f : fibers) f.state = READY;
      moved = true;
    }
    if (!moved) {
      shim_fail("threads wait at different barriers, or for threads that have ended", "line", site);
      return;
    }
  }
}

static int shim_launch(int gx, int gy, int gz, int threads, long long shared, int count,
                       void** pointers, const long long* sizes, const int* fresh, int order,
                       bool with_fibers, void (*kernel)(), char* message) {
  static std::unordered_map<char*, std::vector<Mark>> scratch_marks;
  std::unordered_map<char*, std::vector<Mark>> marks;
  std::vector<char> block_memory(shared + 64);
  std::vector<Mark> shared_marks;
  shim_message[0] = 0;
  if (threads > 1024 || count > SHIM_MOST) return 2;
  while ((int)fibers.size() < threads) {
    Fiber f = {};
    f.stack = (char*)malloc(STACK);
    fibers.push_back(f);
  }
  while ((int)fibers.size() > threads) {
    free(fibers.back().stack);
    fibers.pop_back();
  }
  for (int k = 0; k < count; k++) {
    static const char* names[] = {"b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9"};
    Region& r = shim_regions[k];
    r = {k == count - 1 ? "scratch" : k < 10 ? names[k] : "a buffer", (char*)pointers[k],
         sizes[k], fresh[k], nullptr};
    auto& held = fresh[k] ? scratch_marks[r.base] : marks[r.base];
    if (fresh[k] == 2) held.assign(sizes[k] + 1, Mark());  // a new piece of scratch
    if ((long long)held.size() < sizes[k] + 1) held.resize(sizes[k] + 1);
    r.marks = &held;
  }
  gridDim = {gx, gy, gz};
  blockDim = {threads, 1, 1};
  shim_kernel = kernel;
  shim_fibers = with_fibers;
  shim_block_memory.base = (char*)(((uintptr_t)block_memory.data() + 63) / 64 * 64);
  shim_block_memory.bytes = shared;
  shim_stamp++;
  const long long blocks = (long long)gx * gy * gz;
  for (long long n = 0; n < blocks && !shim_message[0]; n++) {
    const long long at = order == 1 ? blocks - 1 - n : n;
    blockIdx = {(int)(at % gx), (int)(at / gx % gy), (int)(at / gx / gy)};
    memset(shim_block_memory.base, 0xFF, shared);
    shared_marks.assign(shared + 1, Mark());
    shim_block_memory.marks = &shared_marks;
    shim_run_block(threads, order);
  }
  memcpy(message, shim_message, sizeof shim_message);
  return shim_message[0] != 0;
}
