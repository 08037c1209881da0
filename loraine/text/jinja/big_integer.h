// Integers beyond 64 bits as Python has them, bounded to kMaxBits: sign and magnitude, schoolbook arithmetic. Used by the Jinja engine.
#pragma once
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace loraine::jinja {

class BigInteger {
 public:
  static constexpr size_t kMaxBits = 1 << 16;  // results beyond it throw a JinjaError

  BigInteger() = default;
  BigInteger(int64_t x);
  static BigInteger from_unsigned(uint64_t x);
  static BigInteger from_double(double x);                                          // a finite one, cut towards zero
  static std::optional<BigInteger> from_digits(std::string_view digits, int base);  // digits only; nullopt if one is none of the base

  bool negative() const { return negative_; }
  bool zero() const { return limbs_.empty(); }
  size_t bits() const;                                     // of the magnitude
  std::optional<int64_t> to_int64() const;                 // nullopt when it does not fit
  double to_double() const;                                // nearest, ties to even; infinite when too large
  std::string digits(int base, bool upper = false) const;  // of the magnitude

  BigInteger operator-() const;
  friend BigInteger operator+(const BigInteger& a, const BigInteger& b);
  friend BigInteger operator-(const BigInteger& a, const BigInteger& b) { return a + -b; }
  friend BigInteger operator*(const BigInteger& a, const BigInteger& b);
  friend std::strong_ordering operator<=>(const BigInteger& a, const BigInteger& b);
  friend bool operator==(const BigInteger& a, const BigInteger& b) = default;
  BigInteger shifted_left(size_t bits) const;

  // quotient towards minus infinity, remainder with the sign of `by`, which is not zero
  static void divide(const BigInteger& a, const BigInteger& by, BigInteger& quotient, BigInteger& remainder);
  static double true_quotient(const BigInteger& a, const BigInteger& by);  // nearest double; infinite when too large
  static BigInteger power(const BigInteger& base, uint64_t exponent);

 private:
  using Limbs = std::vector<uint32_t>;  // lowest first, no zero on top
  static int compare_magnitude(const Limbs& a, const Limbs& b);
  static Limbs add(const Limbs& a, const Limbs& b);
  static Limbs subtract(const Limbs& a, const Limbs& b);                       // a >= b
  static Limbs divide_magnitude(const Limbs& a, const Limbs& b, Limbs& rest);  // b not empty
  static uint32_t divide_small(Limbs& a, uint32_t by);                         // in place; gives the rest
  void normalize();                                                            // and checks kMaxBits

  Limbs limbs_;
  bool negative_ = false;
};

}  // namespace loraine::jinja
