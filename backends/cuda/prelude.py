"""What every module of CUDA C++ begins with: types, 16-bit floats, memory, shuffles, atomics.

Everything that touches memory goes through a few macros (`GLOBAL`, `PART`, `SHARED`, `PLACE`), so
that tests can put checked memory in their place and run the very same text on the CPU.
"""

from __future__ import annotations

__all__ = ["PRELUDE"]

PRELUDE = r"""
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef unsigned __int128 u128;
typedef __int128 s128;

#ifndef GLOBAL
#define GLOBAL(T) T* __restrict__
#define PART(T, name, whole, offset, count) T* name = (T*)((whole) + (offset))
#define SHARED(T, name, offset, count) T* name = (T*)(block_memory + (offset))
#define PLACE(memory, at) (&(memory)[at])
extern __shared__ __align__(16) u8 block_memory[];
#endif

template <class T, int N>
struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Vector { T x[N]; };

template <int N, class T>
__device__ __forceinline__ Vector<T, N> load_vector(const T* p) { return *(const Vector<T, N>*)p; }

template <class T, int N>
__device__ __forceinline__ void store_vector(T* p, Vector<T, N> v) { *(Vector<T, N>*)p = v; }

__device__ __forceinline__ float nanf_number() { return __uint_as_float(0x7fc00000u); }
__device__ __forceinline__ double nan_number() {
  return __longlong_as_double(0x7ff8000000000000ll);
}
__device__ __forceinline__ float infinityf() { return __uint_as_float(0x7f800000u); }
__device__ __forceinline__ double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }

// Formulas for what GPUs have instructions for: those since sm_53, and since sm_80.
#if defined(__CUDA_ARCH__)
__device__ __forceinline__ float float_of_half(u16 h) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
  return x;
}

__device__ __forceinline__ u16 half_of_float(float x) {
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
}
#else
__device__ __forceinline__ float float_of_half(u16 h) {
  const u32 low = (u32)(h & 0x7fff) << 13;
  const u32 size = (h & 0x7c00) == 0x7c00
      ? low | 0x7f800000u : __float_as_uint(__uint_as_float(low) * 5.192296858534828e33f);
  return __uint_as_float(size | (u32)(h & 0x8000) << 16);
}

__device__ __forceinline__ u16 half_of_float(float x) {
  const u32 bits = __float_as_uint(x), b = bits & 0x7fffffffu;
  const u32 normal = (b + 0xc8000fffu + (b >> 13 & 1)) >> 13;
  const u32 small = __float_as_uint(__uint_as_float(b) + 0.5f) - 0x3f000000u;
  const u32 nan = 0x7e00u | (b >> 13 & 0x3ff);
  const u32 size = b > 0x7f800000u ? nan : b >= 0x47800000u ? 0x7c00u
      : b < 0x38800000u ? small : normal;
  return (u16)(size | (bits >> 16 & 0x8000u));
}
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
__device__ __forceinline__ u16 bfloat_of_float(float x) {
  u16 h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return h;
}
#else
__device__ __forceinline__ u16 bfloat_of_float(float x) {
  const u32 bits = __float_as_uint(x);
  const u32 kept = x != x ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1);
  return (u16)(kept >> 16);
}
#endif
__device__ __forceinline__ float bfloat_near(float x) {
  return __uint_as_float((u32)bfloat_of_float(x) << 16);
}

template <class T> __device__ __forceinline__ T maximum_of(T x, T y) {
  return x != x ? x : y != y ? y : x > y ? x : y;
}
template <class T> __device__ __forceinline__ T minimum_of(T x, T y) {
  return x != x ? x : y != y ? y : x < y ? x : y;
}

__device__ __forceinline__ u32 bits_set(u8 x) { return __popc(x); }
__device__ __forceinline__ u32 bits_set(u16 x) { return __popc(x); }
__device__ __forceinline__ u32 bits_set(u32 x) { return __popc(x); }
__device__ __forceinline__ u32 bits_set(u64 x) { return __popcll(x); }
__device__ __forceinline__ u32 leading_zeros(u8 x) { return __clz(x) - 24; }
__device__ __forceinline__ u32 leading_zeros(u16 x) { return __clz(x) - 16; }
__device__ __forceinline__ u32 leading_zeros(u32 x) { return __clz(x); }
__device__ __forceinline__ u32 leading_zeros(u64 x) { return __clzll(x); }
__device__ __forceinline__ u32 funnel_left(u32 x, u32 y, u32 n) {
  return n & 31 ? x << (n & 31) | y >> (32 - (n & 31)) : x;
}
__device__ __forceinline__ u64 funnel_left(u64 x, u64 y, u64 n) {
  return n & 63 ? x << (n & 63) | y >> (64 - (n & 63)) : x;
}

__device__ __forceinline__ u64 compare_swap(u64* p, u64 old, u64 next) {
  return atomicCAS(p, old, next);
}
__device__ __forceinline__ u32 compare_swap(u32* p, u32 old, u32 next) {
  return atomicCAS(p, old, next);
}
__device__ __forceinline__ u16 compare_swap(u16* p, u16 old, u16 next) {
  return atomicCAS(p, old, next);
}
__device__ __forceinline__ u8 compare_swap(u8* p, u8 old, u8 next) {
  u32* word = (u32*)((u64)p & ~3ull);
  const u32 shift = 8 * (u32)((u64)p & 3);
  for (u32 seen = *(volatile u32*)word;;) {
    const u8 held = (u8)(seen >> shift);
    if (held != old) return held;
    const u32 was = seen, mixed = (seen & ~(0xffu << shift)) | (u32)next << shift;
    seen = atomicCAS(word, was, mixed);
    if (seen == was) return old;
  }
}

#define ALL 0xffffffffu
__device__ __forceinline__ float shuffle_xor(float x, int d) { return __shfl_xor_sync(ALL, x, d); }
__device__ __forceinline__ double shuffle_xor(double x, int d) {
  return __shfl_xor_sync(ALL, x, d);
}
__device__ __forceinline__ u64 shuffle_xor(u64 x, int d) { return __shfl_xor_sync(ALL, x, d); }
__device__ __forceinline__ u32 shuffle_xor(u32 x, int d) { return __shfl_xor_sync(ALL, x, d); }
__device__ __forceinline__ u16 shuffle_xor(u16 x, int d) {
  return (u16)__shfl_xor_sync(ALL, (u32)x, d);
}
__device__ __forceinline__ u8 shuffle_xor(u8 x, int d) {
  return (u8)__shfl_xor_sync(ALL, (u32)x, d);
}
__device__ __forceinline__ bool shuffle_xor(bool x, int d) {
  return __shfl_xor_sync(ALL, (u32)x, d) != 0;
}
__device__ __forceinline__ float shuffle_up(float x, int d) { return __shfl_up_sync(ALL, x, d); }
__device__ __forceinline__ double shuffle_up(double x, int d) { return __shfl_up_sync(ALL, x, d); }
__device__ __forceinline__ u64 shuffle_up(u64 x, int d) { return __shfl_up_sync(ALL, x, d); }
__device__ __forceinline__ u32 shuffle_up(u32 x, int d) { return __shfl_up_sync(ALL, x, d); }
__device__ __forceinline__ u16 shuffle_up(u16 x, int d) {
  return (u16)__shfl_up_sync(ALL, (u32)x, d);
}
__device__ __forceinline__ u8 shuffle_up(u8 x, int d) {
  return (u8)__shfl_up_sync(ALL, (u32)x, d);
}
"""
