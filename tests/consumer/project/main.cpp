#include <deltatune/deltatune.hpp>
#include <iostream>

double left(bool fail);
double right(bool fail);

int main() {
  if (left(false) != 42.0 || right(false) != 42.0) {
    std::cerr << "wrong product: " << left(false) << ", " << right(false) << "\n";
    return 1;
  }
  for (auto* side : {left, right}) {
    try {
      side(true);
      return 1;
    } catch (const deltatune::Error& error) {  // one type in the whole program
      if (error.where() != "side") return 1;
    }
  }
  std::cout << "42\n";
  return 0;
}
