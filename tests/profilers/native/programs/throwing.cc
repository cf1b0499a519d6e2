// Exceptions, destructors and virtual calls: entries with a language-specific area, cold parts.
#include <stdexcept>
#include <string>
#include <vector>

struct Base {
	virtual ~Base() = default;
	virtual std::string name(int n) const { return std::string(n, 'b'); }
};

struct Derived : Base {
	std::string name(int n) const override
	{
		if (n > 40)
			throw std::runtime_error("too long");
		return Base::name(n) + "d";
	}
};

static std::size_t total(const std::vector<Base *> &all, int n)
{
	std::size_t sum = 0;
	for (const Base *one : all) {
		std::string text = one->name(n);
		try {
			sum += text.size() + one->name(n * 2).size();
		} catch (const std::runtime_error &error) {
			sum += std::string(error.what()).size();
		}
	}
	return sum;
}

int main(int count, char **)
{
	Base base;
	Derived derived;
	std::vector<Base *> all{&base, &derived};
	return total(all, count * 25) == 0;
}
