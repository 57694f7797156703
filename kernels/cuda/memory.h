// A thread's elements between memory and registers: 16 bytes at a time where they are whole and aligned, one by one
// elsewhere. Loading stands apart from converting, so that the loads of several operands are under way before the first
// value is used.
#pragma once

#include "../math/storage.h"
#include "tile.h"

namespace fastvae::FASTVAE_ISA {

// A unit's elements as memory has them, packed: of four bytes each, or two, or one.
template <int words>
struct Packed {
  uint32_t word[words];
};

FASTVAE_FN bool is_aligned(const void* at, int bytes) { return (reinterpret_cast<uintptr_t>(at) & (bytes - 1)) == 0; }

// One access of `bytes`: 16, 8 or 4.
FASTVAE_FN void load_words(const char* at, int bytes, uint32_t* word) {
#if defined(__CUDA_ARCH__)
  if (bytes == 16) {
    uint4 v = __ldg(reinterpret_cast<const uint4*>(at));
    word[0] = v.x, word[1] = v.y, word[2] = v.z, word[3] = v.w;
  } else if (bytes == 8) {
    uint2 v = __ldg(reinterpret_cast<const uint2*>(at));
    word[0] = v.x, word[1] = v.y;
  } else {
    word[0] = __ldg(reinterpret_cast<const uint32_t*>(at));
  }
#else
  memcpy(word, at, bytes);
#endif
}

FASTVAE_FN void store_words(const uint32_t* word, int bytes, char* at) {
#if defined(__CUDA_ARCH__)
  // By hand: of an address that came through registers the compiler knows no alignment.
  if (bytes == 16)
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(word[0]), "r"(word[1]), "r"(word[2]),
                 "r"(word[3])
                 : "memory");
  else asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(at), "r"(word[0]), "r"(word[1]) : "memory");
#else
  memcpy(at, word, bytes);
#endif
}

// Of the bits that load_bits gives.
FASTVAE_FN float value_of(uint32_t bits, Type type) {
  if (type < Type::f16) return bit_cast<float>(bits);
  if (type == Type::bf16) return to_float(BFloat16{static_cast<uint16_t>(bits)});
  if (type == Type::f16) return to_float(Half{static_cast<uint16_t>(bits)});
  if (type < Type::i8) return static_cast<float>(bits);
  int unused = type == Type::i8 ? 24 : type == Type::i16 ? 16 : 0;
  return static_cast<float>(static_cast<int32_t>(bits << unused) >> unused);
}

// An element's bits; those of a float where it has eight bytes.
FASTVAE_FN uint32_t load_bits(const char* at, Type type) {
  int log = log_bytes(type);
  if (type == Type::f64) return bit_cast<uint32_t>(static_cast<float>(*reinterpret_cast<const double*>(at)));
  if (type == Type::i64) return bit_cast<uint32_t>(static_cast<float>(*reinterpret_cast<const int64_t*>(at)));
  if (log == 2) return *reinterpret_cast<const uint32_t*>(at);
  return log == 1 ? *reinterpret_cast<const uint16_t*>(at) : *reinterpret_cast<const uint8_t*>(at);
}

template <class T>
FASTVAE_FN T load_element(const char* at, Type type) {
  if (type == Type::f64) return static_cast<T>(*reinterpret_cast<const double*>(at));
  if (type == Type::i64) return static_cast<T>(*reinterpret_cast<const int64_t*>(at));
  if (type == Type::i32) return static_cast<T>(*reinterpret_cast<const int32_t*>(at));
  return static_cast<T>(value_of(load_bits(at, type), type));
}

template <class T>
FASTVAE_FN void store_element(T y, Type type, char* at) {
  if (type == Type::f64) *reinterpret_cast<double*>(at) = y;
  else if (type == Type::f32) *reinterpret_cast<float*>(at) = static_cast<float>(y);
  else if (type == Type::bf16) from_float(static_cast<float>(y), *reinterpret_cast<BFloat16*>(at));
  else from_float(static_cast<float>(y), *reinterpret_cast<Half*>(at));
}

FASTVAE_FN void insert(int element, int log, uint32_t bits, Packed<4>& packed) {
  if (log >= 2) packed.word[element & 3] = bits;
  else if (log == 1) packed.word[element >> 1] |= bits << (16 * (element & 1));
  else packed.word[element >> 2] |= bits << (8 * (element & 3));
}

template <int words, int width>
FASTVAE_FN void unpack(const Packed<words>& packed, Type type, float (&x)[width]) {
  if (type < Type::f16) {
    for (int e = 0; e < width; ++e) x[e] = bit_cast<float>(packed.word[e & (words - 1)]);
  } else if (type == Type::bf16) {
    for (int e = 0; e < width; ++e)
      x[e] = bit_cast<float>(e & 1 ? packed.word[e >> 1] & 0xffff0000u : packed.word[e >> 1] << 16);
  } else if (type == Type::f16) {
    for (int e = 0; e < width; ++e) x[e] = to_float(Half{static_cast<uint16_t>(packed.word[e >> 1] >> (16 * (e & 1)))});
  } else if (type < Type::i8) {
    for (int e = 0; e < width; ++e) x[e] = static_cast<float>((packed.word[e >> 2] >> (8 * (e & 3))) & 0xffu);
  } else if (type == Type::i8) {
    for (int e = 0; e < width; ++e) x[e] = value_of(packed.word[e >> 2] >> (8 * (e & 3)), type);
  } else if (type == Type::i16) {
    for (int e = 0; e < width; ++e) x[e] = value_of(packed.word[e >> 1] >> (16 * (e & 1)), type);
  } else {
    for (int e = 0; e < width; ++e) x[e] = value_of(packed.word[e & (words - 1)], type);
  }
}

template <class Narrow>
FASTVAE_FN uint32_t pack_pair(float low, float high) {
  Narrow a, b;
  from_float(low, a);
  from_float(high, b);
  return a.bits | static_cast<uint32_t>(b.bits) << 16;
}

template <int words, int width>
FASTVAE_FN Packed<words> pack(Type type, const float (&y)[width]) {
  Packed<words> packed = {};
  if (type == Type::f32) {
    for (int i = 0; i < words; ++i) packed.word[i] = bit_cast<uint32_t>(y[i]);
  } else if (type == Type::bf16) {
    for (int i = 0; i < width / 2; ++i) packed.word[i] = pack_pair<BFloat16>(y[2 * i], y[2 * i + 1]);
  } else {
    for (int i = 0; i < width / 2; ++i) packed.word[i] = pack_pair<Half>(y[2 * i], y[2 * i + 1]);
  }
  return packed;
}

// The type of a lot's elements where it has but one.
template <class A>
FASTVAE_FN Type type_in(Type type) {
  return std::is_base_of_v<Words, A> ? Type::f32 : std::is_base_of_v<Halves, A> ? Type::bf16 : type;
}

// Where a row of an operand begins, in elements. A dense lot has two batch dimensions.
template <class A>
FASTVAE_FN int64_t row_offset(const CutJob& job, const Operand& operand, const Stretch& stretch) {
  if (job.rows == 1) return 0;
  if (!kDense<A>) return offset_of_row(job, operand, stretch.row);
  return stretch.outer * operand.strides[0] + stretch.inner * operand.strides[1];
}

template <class A>
FASTVAE_FN char* held_row(const CutJob& job, const Operand& operand, const Stretch& stretch) {
  return static_cast<char*>(operand.data) + (row_offset<A>(job, operand, stretch) << log_bytes(operand.type));
}

template <class T>
FASTVAE_FN T held_value(const Operand& operand, const char* row) {
  return operand.data == nullptr ? static_cast<T>(operand.fill) : load_element<T>(row, operand.type);
}

template <class T, int width>
FASTVAE_FN void hold(const Operand& operand, const char* row, T (&x)[width]) {
  T value = held_value<T>(operand, row);
  for (int e = 0; e < width; ++e) x[e] = value;
}

// The row of what steps along it, in a dense lot from the chunk on.
template <class A>
FASTVAE_FN char* stepping_row(const CutJob& job, const Operand& operand, const Stretch& stretch) {
  int64_t offset = row_offset<A>(job, operand, stretch) + (kDense<A> ? stretch.first_col : 0);
  char* row = static_cast<char*>(operand.data) + (offset << log_bytes(type_in<A>(operand.type)));
#if defined(__CUDA_ARCH__)
  if (kDense<A>) asm("" : "+l"(row));  // one address in registers, not the terms of its sum
#endif
  return row;
}

template <class A>
FASTVAE_FN char* row_of(const CutJob& job, const Operand& operand, const Stretch& stretch) {
  return is_held(operand) ? held_row<A>(job, operand, stretch) : stepping_row<A>(job, operand, stretch);
}

// What a unit's loads leave in registers until they are converted.
template <class A>
using Raw = std::conditional_t<A::width == 1, typename A::T, Packed<A::words>>;

// A dense unit, by accesses of 16 bytes at most.
template <class A>
FASTVAE_FN void load_whole(const char* at, int log, Packed<A::words>& packed) {
  int bytes = A::width << log;
  FASTVAE_UNROLL
  for (int i = 0; i < A::words; i += 4)
    if (4 * i < bytes) load_words(at + 4 * i, bytes < 16 ? bytes : 16, packed.word + i);
}

template <class A>
FASTVAE_FN void store_whole(const Packed<A::words>& packed, int log, char* at) {
  int bytes = A::width << log;
  FASTVAE_UNROLL
  for (int i = 0; i < A::words; i += 4)
    if (4 * i < bytes) store_words(packed.word + i, bytes < 16 ? bytes : 16, at + 4 * i);
}

template <class A>
FASTVAE_FN bool is_whole(const Unit& unit, int64_t step, const void* at, int log) {
  return unit.valid == (1u << A::width) - 1 && step == 1 && is_aligned(at, A::width << log);
}

template <class A>
FASTVAE_FN Raw<A> load(const Operand& operand, const char* row, const Unit& unit) {
  Type type = type_in<A>(operand.type);
  int log = log_bytes(type);
  if constexpr (kDense<A>) {
    Raw<A> packed = {};
    load_whole<A>(row + (static_cast<int>(unit.col) << log), log, packed);
    return packed;
  } else if constexpr (A::width == 1) {
    return load_element<double>(row + ((unit.col * operand.strides[kRun]) << log), type);
  } else {
    Raw<A> packed = {};
    int64_t step = operand.strides[kRun];
    const char* at = row + ((unit.col * step) << log);
    if (log < 3 && is_whole<A>(unit, step, at, log)) {
      load_whole<A>(at, log, packed);
    } else {
      FASTVAE_UNROLL
      for (int e = 0; e < A::width; ++e)
        if (is_valid(unit, e)) insert(e, log, load_bits(at + ((e * step) << log), type), packed);
    }
    return packed;
  }
}

template <class A>
FASTVAE_FN void convert(const Operand& operand, const Raw<A>& raw, typename A::T (&x)[A::width]) {
  if constexpr (A::width == 1) x[0] = raw;
  else unpack(raw, type_in<A>(operand.type), x);
}

template <class A>
FASTVAE_FN void store(const Operand& operand, char* row, const Unit& unit, const typename A::T (&y)[A::width]) {
  Type type = type_in<A>(operand.type);
  int log = log_bytes(type);
  if constexpr (kDense<A>) {
    store_whole<A>(pack<A::words>(type, y), log, row + (static_cast<int>(unit.col) << log));
  } else if constexpr (A::width == 1) {
    store_element(y[0], type, row + ((unit.col * operand.strides[kRun]) << log));
  } else {
    int64_t step = operand.strides[kRun];
    char* at = row + ((unit.col * step) << log);
    if (is_whole<A>(unit, step, at, log)) {
      store_whole<A>(pack<A::words>(type, y), log, at);
    } else {
      FASTVAE_UNROLL
      for (int e = 0; e < A::width; ++e)
        if (is_valid(unit, e)) store_element(y[e], type, at + ((e * step) << log));
    }
  }
}

}  // namespace fastvae::FASTVAE_ISA
