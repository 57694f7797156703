// A thread's elements between memory and registers: 16 bytes at a time where they are whole and aligned, one by one
// elsewhere. Loading stands apart from converting, so that the loads of several operands are under way before the first
// value is used.
#pragma once

#include "../math/storage.h"
#include "tile.h"

namespace fastvae::FASTVAE_ISA {

// A unit's elements as memory has them, packed: of four bytes each, or two, or one. What serves the whole unit stands
// in the first word alone.
struct Packed {
  uint32_t word[4];
};

FASTVAE_FN int log_bytes(Type type) { return type == Type::f64 ? 3 : type == Type::f32 ? 2 : type < Type::u8 ? 1 : 0; }

FASTVAE_FN bool is_aligned(const void* at, int bytes) { return (reinterpret_cast<uintptr_t>(at) & (bytes - 1)) == 0; }

// One access of `bytes`: 16, 8 or 4.
FASTVAE_FN void load_words(const char* at, int bytes, Packed& packed) {
#if defined(__CUDA_ARCH__)
  if (bytes == 16) {
    uint4 v = __ldg(reinterpret_cast<const uint4*>(at));
    packed = {{v.x, v.y, v.z, v.w}};
  } else if (bytes == 8) {
    uint2 v = __ldg(reinterpret_cast<const uint2*>(at));
    packed.word[0] = v.x, packed.word[1] = v.y;
  } else {
    packed.word[0] = __ldg(reinterpret_cast<const uint32_t*>(at));
  }
#else
  memcpy(packed.word, at, bytes);
#endif
}

FASTVAE_FN void store_words(const Packed& packed, int bytes, char* at) {
#if defined(__CUDA_ARCH__)
  const uint32_t (&w)[4] = packed.word;
  if (bytes == 16) *reinterpret_cast<uint4*>(at) = make_uint4(w[0], w[1], w[2], w[3]);
  else *reinterpret_cast<uint2*>(at) = make_uint2(w[0], w[1]);
#else
  memcpy(at, packed.word, bytes);
#endif
}

FASTVAE_FN uint32_t load_narrow(const char* at, int log) {
  if (log == 2) return *reinterpret_cast<const uint32_t*>(at);
  return log == 1 ? *reinterpret_cast<const uint16_t*>(at) : *reinterpret_cast<const uint8_t*>(at);
}

FASTVAE_FN void insert(int element, int log, uint32_t bits, Packed& packed) {
  if (log == 2) packed.word[element & 3] = bits;
  else if (log == 1) packed.word[element >> 1] |= bits << (16 * (element & 1));
  else packed.word[element >> 2] |= bits << (8 * (element & 3));
}

FASTVAE_FN void store_narrow(const Packed& packed, int element, int log, char* at) {
  if (log == 2) *reinterpret_cast<uint32_t*>(at) = packed.word[element & 3];
  else *reinterpret_cast<uint16_t*>(at) = static_cast<uint16_t>(packed.word[element >> 1] >> (16 * (element & 1)));
}

template <class A>
FASTVAE_FN bool is_whole(const Unit& unit, const void* at, int log) {
  return unit.valid == (1u << A::width) - 1 && is_aligned(at, A::width << log);
}

template <class A>
FASTVAE_FN Packed load_unit(const Operand& operand, const char* row, const Unit& unit) {
  if (operand.data == nullptr) return {{bit_cast<uint32_t>(static_cast<float>(operand.fill)), 0, 0, 0}};
  Packed packed = {};
  int log = log_bytes(operand.type);
  if (operand.event_constant) {
    packed.word[0] = load_narrow(row, log);
    return packed;
  }
  const char* at = row + (unit.col << log);
  if (is_whole<A>(unit, at, log)) {
    load_words(at, A::width << log, packed);
  } else {
    FASTVAE_UNROLL
    for (int e = 0; e < A::width; ++e)
      if (is_valid(unit, e)) insert(e, log, load_narrow(at + (e << log), log), packed);
  }
  return packed;
}

FASTVAE_FN float value_of(uint32_t bits, Type type) {
  if (type == Type::bf16) return to_float(BFloat16{static_cast<uint16_t>(bits)});
  if (type == Type::f16) return to_float(Half{static_cast<uint16_t>(bits)});
  return type >= Type::u8 ? static_cast<float>(bits) : bit_cast<float>(bits);
}

// Values of what was loaded.
template <int width>
FASTVAE_FN void convert(const Operand& operand, const Packed& packed, float (&x)[width]) {
  Type type = operand.data == nullptr ? Type::f32 : operand.type;
  if (operand.data == nullptr || operand.event_constant) {
    float value = value_of(packed.word[0], type);
    for (int e = 0; e < width; ++e) x[e] = value;
  } else if (type == Type::f32) {
    for (int e = 0; e < width; ++e) x[e] = bit_cast<float>(packed.word[e & 3]);
  } else if (type >= Type::u8) {
    for (int e = 0; e < width; ++e) x[e] = static_cast<float>((packed.word[e >> 2] >> (8 * (e & 3))) & 0xffu);
  } else {
    for (int e = 0; e < width; ++e) x[e] = value_of((packed.word[e >> 1] >> (16 * (e & 1))) & 0xffffu, type);
  }
}

template <class Narrow>
FASTVAE_FN uint32_t pack(float low, float high) {
  Narrow a, b;
  from_float(low, a);
  from_float(high, b);
  return a.bits | static_cast<uint32_t>(b.bits) << 16;
}

template <class A>
FASTVAE_FN void store_unit(const Operand& operand, char* row, const Unit& unit, const float (&y)[A::width]) {
  int log = log_bytes(operand.type);
  Packed packed = {};
  if (log == 2) {
    for (int i = 0; i < 4; ++i) packed.word[i] = bit_cast<uint32_t>(y[i]);
  } else if (operand.type == Type::bf16) {
    for (int i = 0; i < A::width / 2; ++i) packed.word[i] = pack<BFloat16>(y[2 * i], y[2 * i + 1]);
  } else {
    for (int i = 0; i < A::width / 2; ++i) packed.word[i] = pack<Half>(y[2 * i], y[2 * i + 1]);
  }
  char* at = row + (unit.col << log);
  if (is_whole<A>(unit, at, log)) {
    store_words(packed, A::width << log, at);
  } else {
    FASTVAE_UNROLL
    for (int e = 0; e < A::width; ++e)
      if (is_valid(unit, e)) store_narrow(packed, e, log, at + (e << log));
  }
}

// One element, wherever it lies.
FASTVAE_FN int64_t scattered_offset(const CutJob& job, const Operand& operand, int64_t row, int64_t col) {
  if (operand.event_contiguous) return row + col;
  return operand.event_constant ? row : row + offset_of(job, operand, job.batch_ndim, job.ndim, col);
}

template <class T>
FASTVAE_CALL T load_scattered(const CutJob& job, const Operand& operand, int64_t row, int64_t col) {
  if (operand.data == nullptr) return static_cast<T>(operand.fill);
  int64_t offset = scattered_offset(job, operand, row, col);
  if (operand.type == Type::f64) return static_cast<T>(static_cast<const double*>(operand.data)[offset]);
  int log = log_bytes(operand.type);
  const char* at = static_cast<const char*>(operand.data) + (offset << log);
  return static_cast<T>(value_of(load_narrow(at, log), operand.type));
}

template <class T>
FASTVAE_CALL void store_scattered(const CutJob& job, const Operand& operand, int64_t row, int64_t col, T y) {
  int64_t offset = scattered_offset(job, operand, row, col);
  switch (operand.type) {
    case Type::f64:
      static_cast<double*>(operand.data)[offset] = y;
      break;
    case Type::f32:
      static_cast<float*>(operand.data)[offset] = static_cast<float>(y);
      break;
    case Type::bf16:
      from_float(static_cast<float>(y), static_cast<BFloat16*>(operand.data)[offset]);
      break;
    default:
      from_float(static_cast<float>(y), static_cast<Half*>(operand.data)[offset]);
  }
}

// What a unit's loads leave in registers until they are converted, and where a row of an operand begins: an address, or
// an offset in elements.
template <class A>
using Raw = std::conditional_t<kScattered<A>, typename A::T, Packed>;
template <class A>
using Row = std::conditional_t<kScattered<A>, int64_t, char*>;

template <class A>
FASTVAE_FN Row<A> row_of(const CutJob& job, const Operand& operand, const Stretch& stretch) {
  if constexpr (kScattered<A>) {
    return offset_of(job, operand, 0, job.batch_ndim, stretch.row);
  } else {
    int64_t offset = stretch.outer * operand.strides[0] + stretch.inner * operand.strides[1];
    return static_cast<char*>(operand.data) + (offset << log_bytes(operand.type));
  }
}

template <class A>
FASTVAE_FN Row<A> advance(const Operand& operand, Row<A> row, int64_t elements) {
  if constexpr (kScattered<A>) return row + elements;
  else return row + (elements << log_bytes(operand.type));
}

template <class A>
FASTVAE_FN Raw<A> load(const CutJob& job, const Operand& operand, Row<A> row, const Unit& unit) {
  if constexpr (kScattered<A>) return load_scattered<typename A::T>(job, operand, row, unit.col);
  else return load_unit<A>(operand, row, unit);
}

template <class T>
FASTVAE_FN void convert(const Operand&, const T& value, T (&x)[1]) {
  x[0] = value;
}

template <class A>
FASTVAE_FN void store(const CutJob& job, const Operand& operand, Row<A> row, const Unit& unit,
                      const typename A::T (&y)[A::width]) {
  if constexpr (kScattered<A>) store_scattered<typename A::T>(job, operand, row, unit.col, y[0]);
  else store_unit<A>(operand, row, unit, y);
}

}  // namespace fastvae::FASTVAE_ISA
