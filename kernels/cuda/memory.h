// A thread's elements between memory and registers: 16 bytes at a time where they lie side by side and aligned, one by
// one elsewhere (heads, tails, strides). Loading stands apart from converting, so that the loads of several operands
// are under way before the first value is used.
#pragma once

#include "../math/storage.h"
#include "tile.h"

namespace fastvae::FASTVAE_ISA {

// A unit's elements as memory has them, packed: of four bytes each, or two, or one. What serves the whole unit stands
// in the first word alone.
template <class T>
struct Raw;
template <>
struct Raw<float> {
  uint32_t word[4];
  bool splat;
};
template <>
struct Raw<double> {
  double value;
};

struct alignas(16) Words4 {
  uint32_t word[4];
};
struct alignas(8) Words2 {
  uint32_t word[2];
};

FASTVAE_FN int log_bytes(Type type) { return type == Type::f64 ? 3 : type == Type::f32 ? 2 : type < Type::u8 ? 1 : 0; }

FASTVAE_FN bool is_aligned(const void* at, int bytes) { return (reinterpret_cast<uintptr_t>(at) & (bytes - 1)) == 0; }

FASTVAE_FN Words4 load16(const char* at) {
#if defined(__CUDA_ARCH__)
  uint4 v = __ldg(reinterpret_cast<const uint4*>(at));
  return {{v.x, v.y, v.z, v.w}};
#else
  return *reinterpret_cast<const Words4*>(at);
#endif
}
FASTVAE_FN Words2 load8(const char* at) {
#if defined(__CUDA_ARCH__)
  uint2 v = __ldg(reinterpret_cast<const uint2*>(at));
  return {{v.x, v.y}};
#else
  return *reinterpret_cast<const Words2*>(at);
#endif
}
FASTVAE_FN void store16(char* at, const Words4& words) {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<uint4*>(at) = make_uint4(words.word[0], words.word[1], words.word[2], words.word[3]);
#else
  *reinterpret_cast<Words4*>(at) = words;
#endif
}
FASTVAE_FN void store8(char* at, const Words2& words) {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<uint2*>(at) = make_uint2(words.word[0], words.word[1]);
#else
  *reinterpret_cast<Words2*>(at) = words;
#endif
}

FASTVAE_FN uint32_t load_narrow(const char* at, int log) {
  if (log == 2) return *reinterpret_cast<const uint32_t*>(at);
  return log == 1 ? *reinterpret_cast<const uint16_t*>(at) : *reinterpret_cast<const uint8_t*>(at);
}

// The bits of an element wherever it lies. A double among floats becomes a float here.
FASTVAE_CALL uint32_t load_element(const Task& task, const Operand& operand, int64_t row, int64_t col) {
  int log = log_bytes(operand.type);
  const char* at = static_cast<const char*>(operand.data) + ((row + col_offset(task, operand, col)) << log);
  if (log < 3) return load_narrow(at, log);
  return bit_cast<uint32_t>(static_cast<float>(*reinterpret_cast<const double*>(at)));
}

FASTVAE_FN void store_narrow(char* at, int log, uint32_t bits) {
  if (log == 2) *reinterpret_cast<uint32_t*>(at) = bits;
  else *reinterpret_cast<uint16_t*>(at) = static_cast<uint16_t>(bits);
}

FASTVAE_CALL void store_element(const Task& task, const Operand& operand, int64_t row, int64_t col, uint32_t bits) {
  int log = log_bytes(operand.type);
  store_narrow(static_cast<char*>(operand.data) + ((row + col_offset(task, operand, col)) << log), log, bits);
}

// Where a unit begins, if it lies there whole, element by element, and aligned; null if it does not.
template <class A>
FASTVAE_FN char* whole(const Task& task, const Operand& operand, int64_t row, const Unit& unit, int log) {
  if (unit.valid != (1u << A::width) - 1) return nullptr;
  int64_t col = unit.col;
  if (!operand.event_contiguous) {
    if (run_from(task, operand, col) < A::width) return nullptr;
    col = col_offset(task, operand, col);
  }
  char* at = static_cast<char*>(operand.data) + ((row + col) << log);
  return is_aligned(at, A::width << log) ? at : nullptr;
}

template <class A>
FASTVAE_FN void load_whole(const char* at, int log, Raw<float>& raw) {
  if (A::width << log == 16) {
    Words4 words = load16(at);
    for (int i = 0; i < 4; ++i) raw.word[i] = words.word[i];
  } else if (A::width << log == 8) {
    Words2 words = load8(at);
    for (int i = 0; i < 2; ++i) raw.word[i] = words.word[i];
  } else {
    raw.word[0] = *reinterpret_cast<const uint32_t*>(at);
  }
}

// Where an element's bits stand in the words.
FASTVAE_FN void insert(int element, int log, uint32_t bits, Raw<float>& raw) {
  if (log >= 2) raw.word[element & 3] = bits;
  else if (log == 1) raw.word[element >> 1] |= bits << (16 * (element & 1));
  else raw.word[element >> 2] |= bits << (8 * (element & 3));
}

FASTVAE_FN uint32_t extract(int element, int log, const Words4& words) {
  return log == 2 ? words.word[element & 3] : words.word[element >> 1] >> (16 * (element & 1));
}

// `row` is the offset of the operand's row.
template <class A>
FASTVAE_FN Raw<float> load(const Task& task, const Operand& operand, int64_t row, const Unit& unit, float) {
  Raw<float> raw = {};
  raw.splat = operand.data == nullptr || operand.event_constant;
  if (operand.data == nullptr) {
    raw.word[0] = bit_cast<uint32_t>(static_cast<float>(operand.fill));
    return raw;
  }
  const char* data = static_cast<const char*>(operand.data);
  int log = log_bytes(operand.type);
  if (raw.splat) {
    raw.word[0] = log < 3 ? load_narrow(data + (row << log), log) : load_element(task, operand, row, 0);
    return raw;
  }
  const char* at = whole<A>(task, operand, row, unit, log);
  if (at != nullptr && log < 3) {
    load_whole<A>(at, log, raw);
  } else if (operand.event_contiguous && log < 3) {
    const char* first = data + ((row + unit.col) << log);
    FASTVAE_UNROLL
    for (int e = 0; e < A::width; ++e)
      if (is_valid(unit, e)) insert(e, log, load_narrow(first + (e << log), log), raw);
  } else {
    FASTVAE_UNROLL
    for (int e = 0; e < A::width; ++e)
      if (is_valid(unit, e)) insert(e, log, load_element(task, operand, row, unit.col + e), raw);
  }
  return raw;
}

FASTVAE_CALL double load_double(const void* data, Type type, int64_t offset) {
  const char* at = static_cast<const char*>(data) + (offset << log_bytes(type));
  switch (type) {
    case Type::f32:
      return *reinterpret_cast<const float*>(at);
    case Type::f16:
      return to_float(*reinterpret_cast<const Half*>(at));
    case Type::bf16:
      return to_float(*reinterpret_cast<const BFloat16*>(at));
    case Type::f64:
      return *reinterpret_cast<const double*>(at);
    default:
      return *reinterpret_cast<const uint8_t*>(at);
  }
}

template <class A>
FASTVAE_FN Raw<double> load(const Task& task, const Operand& operand, int64_t row, const Unit& unit, double) {
  if (operand.data == nullptr) return {operand.fill};
  int64_t col = operand.event_constant ? 0 : col_offset(task, operand, unit.col);
  return {load_double(operand.data, operand.type, row + col)};
}

FASTVAE_FN float value_of(uint32_t bits, Type type) {
  if (type == Type::bf16) return to_float(BFloat16{static_cast<uint16_t>(bits)});
  if (type == Type::f16) return to_float(Half{static_cast<uint16_t>(bits)});
  return type >= Type::u8 ? static_cast<float>(bits) : bit_cast<float>(bits);
}

// Values of what was loaded.
template <int width>
FASTVAE_FN void convert(const Operand& operand, const Raw<float>& raw, float (&x)[width]) {
  Type type = operand.data == nullptr ? Type::f32 : operand.type;
  if (raw.splat) {
    float value = value_of(raw.word[0], type);
    for (int e = 0; e < width; ++e) x[e] = value;
  } else if (type == Type::bf16) {
    for (int e = 0; e < width; ++e)
      x[e] = bit_cast<float>(e & 1 ? raw.word[e >> 1] & 0xffff0000u : raw.word[e >> 1] << 16);
  } else if (type == Type::f16) {
    for (int e = 0; e < width; ++e) x[e] = to_float(Half{static_cast<uint16_t>(raw.word[e >> 1] >> (16 * (e & 1)))});
  } else if (type >= Type::u8) {
    for (int e = 0; e < width; ++e) x[e] = static_cast<float>((raw.word[e >> 2] >> (8 * (e & 3))) & 0xffu);
  } else {
    for (int e = 0; e < width; ++e) x[e] = bit_cast<float>(raw.word[e & 3]);
  }
}

FASTVAE_FN void convert(const Operand&, const Raw<double>& raw, double (&x)[1]) { x[0] = raw.value; }

template <class Narrow>
FASTVAE_FN uint32_t pack(float low, float high) {
  Narrow a, b;
  from_float(low, a);
  from_float(high, b);
  return a.bits | static_cast<uint32_t>(b.bits) << 16;
}

template <class A>
FASTVAE_FN void store(const Task& task, const Operand& operand, int64_t row, const Unit& unit,
                      const float (&y)[A::width]) {
  int log = log_bytes(operand.type);
  Words4 words = {};
  if (log == 2) {
    for (int i = 0; i < 4; ++i) words.word[i] = bit_cast<uint32_t>(y[i]);
  } else if (operand.type == Type::bf16) {
    for (int i = 0; i < A::width / 2; ++i) words.word[i] = pack<BFloat16>(y[2 * i], y[2 * i + 1]);
  } else {
    for (int i = 0; i < A::width / 2; ++i) words.word[i] = pack<Half>(y[2 * i], y[2 * i + 1]);
  }
  if (char* at = whole<A>(task, operand, row, unit, log)) {
    if (A::width << log == 16) store16(at, words);
    else store8(at, {{words.word[0], words.word[1]}});
    return;
  }
  if (operand.event_contiguous) {
    char* first = static_cast<char*>(operand.data) + ((row + unit.col) << log);
    FASTVAE_UNROLL
    for (int e = 0; e < A::width; ++e)
      if (is_valid(unit, e)) store_narrow(first + (e << log), log, extract(e, log, words));
  } else {
    FASTVAE_UNROLL
    for (int e = 0; e < A::width; ++e)
      if (is_valid(unit, e)) store_element(task, operand, row, unit.col + e, extract(e, log, words));
  }
}

template <class A>
FASTVAE_FN void store(const Task& task, const Operand& operand, int64_t row, const Unit& unit, const double (&y)[1]) {
  int64_t offset = row + col_offset(task, operand, unit.col);
  switch (operand.type) {
    case Type::f64:
      static_cast<double*>(operand.data)[offset] = y[0];
      break;
    case Type::f32:
      static_cast<float*>(operand.data)[offset] = static_cast<float>(y[0]);
      break;
    case Type::bf16:
      from_float(static_cast<float>(y[0]), static_cast<BFloat16*>(operand.data)[offset]);
      break;
    default:
      from_float(static_cast<float>(y[0]), static_cast<Half*>(operand.data)[offset]);
  }
}

}  // namespace fastvae::FASTVAE_ISA
