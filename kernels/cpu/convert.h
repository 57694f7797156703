// Runs of elements between memory's types and the arithmetic type.
#pragma once

#include "../math/storage.h"
#include "cut_job.h"

namespace fastvae::FASTVAE_ISA {

template <class T, class From>
FASTVAE_FN T value_of(From x) {
  if constexpr (std::is_integral_v<From>) return static_cast<T>(x);
  else return static_cast<T>(to_float(x));
}

template <class From, class T>
FASTVAE_FN void read_run(const void* data, int64_t offset, int64_t stride, int64_t n, T* out) {
  const From* from = static_cast<const From*>(data) + offset;
  if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) out[i] = value_of<T>(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = value_of<T>(from[i * stride]);
  }
}

#if defined(__F16C__)
template <>
FASTVAE_FN void read_run<Half, float>(const void* data, int64_t offset, int64_t stride, int64_t n, float* out) {
  const Half* from = static_cast<const Half*>(data) + offset;
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; stride == 1 && i + 16 <= n; i += 16)
    _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i))));
#else
  for (; stride == 1 && i + 8 <= n; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
  for (; i < n; ++i) out[i] = to_float(from[i * stride]);
}
#endif

template <class T>
void read(Type type, const void* data, int64_t offset, int64_t stride, int64_t n, T* out) {
  switch (type) {
    case Type::f32:
      return read_run<float>(data, offset, stride, n, out);
    case Type::f16:
      return read_run<Half>(data, offset, stride, n, out);
    case Type::bf16:
      return read_run<BFloat16>(data, offset, stride, n, out);
    case Type::u8:
    case Type::boolean:
      return read_run<uint8_t>(data, offset, stride, n, out);
    case Type::i8:
      return read_run<int8_t>(data, offset, stride, n, out);
    case Type::i16:
      return read_run<int16_t>(data, offset, stride, n, out);
    case Type::i32:
      return read_run<int32_t>(data, offset, stride, n, out);
    case Type::i64:
      return read_run<int64_t>(data, offset, stride, n, out);
    case Type::f64:
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(static_cast<const double*>(data)[offset + i * stride]);
  }
}

template <class To, class T>
FASTVAE_FN void write_run(const T* in, int64_t n, void* data, int64_t offset, int64_t stride) {
  To* to = static_cast<To*>(data) + offset;
  if (stride == 1) {
    for (int64_t i = 0; i < n; ++i) from_float(static_cast<float>(in[i]), to[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) from_float(static_cast<float>(in[i]), to[i * stride]);
  }
}

#if defined(__AVX512F__)
template <>
FASTVAE_FN void write_run<Half, float>(const float* in, int64_t n, void* data, int64_t offset, int64_t stride) {
  Half* to = static_cast<Half*>(data) + offset;
  int64_t i = 0;
  if (stride == 1)
    for (; i + 16 <= n; i += 16)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i),
                          _mm512_cvtps_ph(_mm512_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < n; ++i) from_float(in[i], to[i * stride]);
}
#endif

template <class T>
void write(const T* in, int64_t n, Type type, void* data, int64_t offset, int64_t stride) {
  switch (type) {
    case Type::f16:
      return write_run<Half>(in, n, data, offset, stride);
    case Type::bf16:
      return write_run<BFloat16>(in, n, data, offset, stride);
    case Type::f32:
      for (int64_t i = 0; i < n; ++i) static_cast<float*>(data)[offset + i * stride] = static_cast<float>(in[i]);
      return;
    case Type::f64:
      for (int64_t i = 0; i < n; ++i) static_cast<double*>(data)[offset + i * stride] = static_cast<double>(in[i]);
      return;
    default:
      return;  // no operator writes integers
  }
}

// An element as it lies in memory, in the arithmetic type.
FASTVAE_FN float load(float x) { return x; }
FASTVAE_FN double load(double x) { return x; }
FASTVAE_FN float load(BFloat16 x) { return to_float(x); }

}  // namespace fastvae::FASTVAE_ISA
