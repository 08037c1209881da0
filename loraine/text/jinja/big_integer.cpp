// See big_integer.h. Division is Knuth's algorithm D.
#include "loraine/text/jinja/big_integer.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

BigInteger::BigInteger(int64_t x) {
  *this = from_unsigned(x < 0 ? 0 - static_cast<uint64_t>(x) : static_cast<uint64_t>(x));
  negative_ = x < 0;
}

BigInteger BigInteger::from_unsigned(uint64_t x) {
  BigInteger out;
  for (; x; x >>= 32) out.limbs_.push_back(static_cast<uint32_t>(x));
  return out;
}

BigInteger BigInteger::from_double(double x) {
  int exponent = 0;
  double fraction = std::frexp(std::fabs(std::trunc(x)), &exponent);
  auto mantissa = static_cast<uint64_t>(std::ldexp(fraction, 53));
  BigInteger out = exponent >= 53 ? from_unsigned(mantissa).shifted_left(static_cast<size_t>(exponent - 53))
                                  : from_unsigned(exponent > -11 ? mantissa >> (53 - exponent) : 0);
  out.negative_ = x < 0 && !out.zero();
  return out;
}

std::optional<BigInteger> BigInteger::from_digits(std::string_view digits, int base) {
  BigInteger out;
  for (char c : digits) {
    int d = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'z' ? (c | 0x20) - 'a' + 10 : 99;
    if (d >= base) return std::nullopt;
    auto carry = static_cast<uint64_t>(d);
    for (uint32_t& limb : out.limbs_) {
      carry += uint64_t{limb} * static_cast<uint64_t>(base);
      limb = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    if (carry) out.limbs_.push_back(static_cast<uint32_t>(carry));
    if (out.limbs_.size() > kMaxBits / 32) out.normalize();
  }
  out.normalize();
  return out;
}

void BigInteger::normalize() {
  while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
  if (limbs_.empty()) negative_ = false;
  if (limbs_.size() > kMaxBits / 32) fail("LimitError", "an integer of more than 65536 bits");
}

size_t BigInteger::bits() const { return limbs_.empty() ? 0 : limbs_.size() * 32 - static_cast<size_t>(std::countl_zero(limbs_.back())); }

std::optional<int64_t> BigInteger::to_int64() const {
  if (limbs_.size() > 2) return std::nullopt;
  uint64_t x = 0;
  for (size_t k = limbs_.size(); k-- > 0;) x = x << 32 | limbs_[k];
  if (x > static_cast<uint64_t>(INT64_MAX) + (negative_ ? 1 : 0)) return std::nullopt;
  return static_cast<int64_t>(negative_ ? 0 - x : x);
}

double BigInteger::to_double() const { return true_quotient(*this, BigInteger(1)); }

std::string BigInteger::digits(int base, bool upper) const {
  if (base == 10 && bits() > 14'286) fail("ValueError", "Exceeds the limit (4300 digits) for integer string conversion");
  if (limbs_.empty()) return "0";
  std::string out;
  Limbs rest = limbs_;
  const char* symbols = upper ? "0123456789ABCDEF" : "0123456789abcdef";
  uint32_t chunk = base == 10 ? 1'000'000'000 : base == 16 ? 1u << 28 : base == 8 ? 1u << 30 : 1u << 31;
  int width = base == 10 ? 9 : base == 16 ? 7 : base == 8 ? 10 : 31;
  charge(static_cast<int64_t>(rest.size() * rest.size() / 16));
  while (!rest.empty()) {
    uint32_t part = divide_small(rest, chunk);
    for (int k = 0; k < width && (part || !rest.empty()); ++k, part /= static_cast<uint32_t>(base))
      out += symbols[part % static_cast<uint32_t>(base)];
  }
  std::reverse(out.begin(), out.end());
  if (base == 10 && out.size() > 4300) fail("ValueError", "Exceeds the limit (4300 digits) for integer string conversion");
  return out;
}

BigInteger BigInteger::operator-() const {
  BigInteger out = *this;
  out.negative_ = !negative_ && !zero();
  return out;
}

int BigInteger::compare_magnitude(const Limbs& a, const Limbs& b) {
  if (a.size() != b.size()) return a.size() < b.size() ? -1 : 1;
  for (size_t k = a.size(); k-- > 0;)
    if (a[k] != b[k]) return a[k] < b[k] ? -1 : 1;
  return 0;
}

std::strong_ordering operator<=>(const BigInteger& a, const BigInteger& b) {
  if (a.negative_ != b.negative_) return a.negative_ ? std::strong_ordering::less : std::strong_ordering::greater;
  return (a.negative_ ? -1 : 1) * BigInteger::compare_magnitude(a.limbs_, b.limbs_) <=> 0;
}

BigInteger::Limbs BigInteger::add(const Limbs& a, const Limbs& b) {
  Limbs out(std::max(a.size(), b.size()) + 1);
  uint64_t carry = 0;
  for (size_t k = 0; k < out.size(); ++k) {
    carry += (k < a.size() ? a[k] : 0u);
    carry += (k < b.size() ? b[k] : 0u);
    out[k] = static_cast<uint32_t>(carry);
    carry >>= 32;
  }
  return out;
}

BigInteger::Limbs BigInteger::subtract(const Limbs& a, const Limbs& b) {
  Limbs out(a.size());
  int64_t borrow = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    borrow += int64_t{a[k]} - (k < b.size() ? int64_t{b[k]} : 0);
    out[k] = static_cast<uint32_t>(borrow);
    borrow >>= 32;
  }
  return out;
}

BigInteger operator+(const BigInteger& a, const BigInteger& b) {
  BigInteger out;
  charge(static_cast<int64_t>(a.limbs_.size() + b.limbs_.size()) / 16);
  if (a.negative_ == b.negative_) {
    out.limbs_ = BigInteger::add(a.limbs_, b.limbs_);
    out.negative_ = a.negative_;
  } else {
    bool bigger = BigInteger::compare_magnitude(a.limbs_, b.limbs_) >= 0;
    out.limbs_ = bigger ? BigInteger::subtract(a.limbs_, b.limbs_) : BigInteger::subtract(b.limbs_, a.limbs_);
    out.negative_ = bigger ? a.negative_ : b.negative_;
  }
  out.normalize();
  return out;
}

BigInteger operator*(const BigInteger& a, const BigInteger& b) {
  if (a.bits() + b.bits() > BigInteger::kMaxBits + 1) fail("LimitError", "an integer of more than 65536 bits");
  charge(static_cast<int64_t>(a.limbs_.size() * b.limbs_.size() / 16));
  BigInteger out;
  out.limbs_.assign(a.limbs_.size() + b.limbs_.size(), 0);
  for (size_t i = 0; i < a.limbs_.size(); ++i) {
    uint64_t carry = 0;
    for (size_t k = 0; k < b.limbs_.size(); ++k) {
      carry += uint64_t{a.limbs_[i]} * b.limbs_[k] + out.limbs_[i + k];
      out.limbs_[i + k] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    out.limbs_[i + b.limbs_.size()] = static_cast<uint32_t>(carry);
  }
  out.negative_ = a.negative_ != b.negative_;
  out.normalize();
  return out;
}

BigInteger BigInteger::shifted_left(size_t bits) const {
  if (zero()) return *this;
  if (this->bits() + bits > 4 * kMaxBits) fail("LimitError", "an integer of more than 65536 bits");
  BigInteger out;
  out.negative_ = negative_;
  out.limbs_.assign(bits / 32, 0);
  uint64_t carry = 0;
  for (uint32_t limb : limbs_) {
    carry |= uint64_t{limb} << (bits % 32);
    out.limbs_.push_back(static_cast<uint32_t>(carry));
    carry >>= 32;
  }
  if (carry) out.limbs_.push_back(static_cast<uint32_t>(carry));
  return out;
}

uint32_t BigInteger::divide_small(Limbs& a, uint32_t by) {
  uint64_t rest = 0;
  for (size_t k = a.size(); k-- > 0;) {
    rest = rest << 32 | a[k];
    a[k] = static_cast<uint32_t>(rest / by);
    rest %= by;
  }
  while (!a.empty() && a.back() == 0) a.pop_back();
  return static_cast<uint32_t>(rest);
}

BigInteger::Limbs BigInteger::divide_magnitude(const Limbs& a, const Limbs& b, Limbs& rest) {
  charge(static_cast<int64_t>(a.size() * b.size() / 16));
  if (compare_magnitude(a, b) < 0) {
    rest = a;
    return {};
  }
  Limbs quotient = a;
  if (b.size() == 1) {
    uint32_t r = divide_small(quotient, b[0]);
    rest.clear();
    if (r) rest.push_back(r);
    return quotient;
  }
  auto shift = static_cast<size_t>(std::countl_zero(b.back()));
  BigInteger wide, divisor;
  wide.limbs_ = a, divisor.limbs_ = b;
  Limbs u = wide.shifted_left(shift).limbs_, v = divisor.shifted_left(shift).limbs_;
  if (u.size() == a.size()) u.push_back(0);
  size_t n = v.size(), m = u.size() - n;
  quotient.assign(m, 0);
  for (size_t j = m; j-- > 0;) {
    uint64_t top = uint64_t{u[j + n]} << 32 | u[j + n - 1];
    uint64_t guess = top / v[n - 1], left = top % v[n - 1];
    while (guess >> 32 || guess * v[n - 2] > (left << 32 | u[j + n - 2])) {
      --guess;
      left += v[n - 1];
      if (left >> 32) break;
    }
    int64_t borrow = 0;
    uint64_t carry = 0;
    for (size_t k = 0; k < n; ++k) {
      carry += guess * v[k];
      borrow += int64_t{u[j + k]} - static_cast<int64_t>(carry & 0xffffffffu);
      u[j + k] = static_cast<uint32_t>(borrow);
      borrow >>= 32;
      carry >>= 32;
    }
    borrow += int64_t{u[j + n]} - static_cast<int64_t>(carry);
    u[j + n] = static_cast<uint32_t>(borrow);
    if (borrow < 0) {  // one too many
      --guess;
      uint64_t sum = 0;
      for (size_t k = 0; k < n; ++k) {
        sum += uint64_t{u[j + k]} + v[k];
        u[j + k] = static_cast<uint32_t>(sum);
        sum >>= 32;
      }
      u[j + n] += static_cast<uint32_t>(sum);
    }
    quotient[j] = static_cast<uint32_t>(guess);
  }
  rest.assign(n, 0);
  for (size_t k = 0; k < n; ++k) rest[k] = shift ? u[k] >> shift | static_cast<uint32_t>(uint64_t{u[k + 1]} << (32 - shift)) : u[k];
  return quotient;
}

void BigInteger::divide(const BigInteger& a, const BigInteger& by, BigInteger& quotient, BigInteger& remainder) {
  BigInteger q, r;
  q.limbs_ = divide_magnitude(a.limbs_, by.limbs_, r.limbs_);
  q.negative_ = a.negative_ != by.negative_;
  r.negative_ = a.negative_;
  q.normalize(), r.normalize();
  if (!r.zero() && r.negative_ != by.negative_) {
    q = q - BigInteger(1);
    r = r + by;
  }
  quotient = std::move(q);
  remainder = std::move(r);
}

// The quotient of the magnitudes to 64 or more bits, then its lowest bit set if anything is left over: rounding that is exact.
double BigInteger::true_quotient(const BigInteger& a, const BigInteger& by) {
  if (a.zero()) return 0;
  int64_t difference = static_cast<int64_t>(a.bits()) - static_cast<int64_t>(by.bits());
  int64_t shift = 66 - difference;  // the quotient gets 66 or 67 bits
  if (difference > 1100) return a.negative_ != by.negative_ ? -INFINITY : INFINITY;
  if (difference < -1200) return a.negative_ != by.negative_ ? -0.0 : 0.0;
  Limbs rest;
  Limbs q = divide_magnitude(shift > 0 ? a.shifted_left(static_cast<size_t>(shift)).limbs_ : a.limbs_,
                             shift < 0 ? by.shifted_left(static_cast<size_t>(-shift)).limbs_ : by.limbs_, rest);
  while (!q.empty() && q.back() == 0) q.pop_back();
  bool sticky = std::any_of(rest.begin(), rest.end(), [](uint32_t x) { return x != 0; });
  BigInteger whole;
  whole.limbs_ = q;
  int64_t exponent = static_cast<int64_t>(whole.bits()) - shift;  // value < 2^exponent
  int64_t keep = std::clamp<int64_t>(exponent + 1074, 0, 53);     // bits that a double of this size has
  int64_t drop = static_cast<int64_t>(whole.bits()) - keep;
  uint64_t kept = 0;
  bool half = false;
  for (int64_t k = static_cast<int64_t>(whole.bits()) - 1; k >= 0; --k) {
    bool bit = whole.limbs_[static_cast<size_t>(k) / 32] >> (k % 32) & 1;
    if (k >= drop) kept = kept << 1 | bit;
    else if (k == drop - 1) half = bit;
    else sticky = sticky || bit;
  }
  if (half && (sticky || (kept & 1))) ++kept;
  double magnitude = std::ldexp(static_cast<double>(kept), static_cast<int>(drop - shift));
  return a.negative_ != by.negative_ ? -magnitude : magnitude;
}

BigInteger BigInteger::power(const BigInteger& base, uint64_t exponent) {
  if (base.bits() > 1 && (exponent > kMaxBits || (base.bits() - 1) * exponent > kMaxBits))
    fail("LimitError", "an integer of more than 65536 bits");
  BigInteger out(1), square = base;
  for (; exponent; exponent >>= 1) {
    if (exponent & 1) out = out * square;
    if (exponent > 1) square = square * square;
  }
  return out;
}

}  // namespace loraine::jinja
