import { assertEquals } from "@std/assert";
import { IdNumbers } from "./id_numbers.ts";

Deno.test("IdNumbers keeps a number for each id, and none where none was kept", () => {
  const numbers = new IdNumbers();
  const ids = [0, 1023, 1024, 2 ** 31, 2 ** 52];
  ids.forEach((id, index) => numbers.set(id, index + 2 ** 40));
  numbers.set(1023, 0);
  numbers.set(77, 0);

  assertEquals([...ids, 1, 77].map((id) => numbers.get(id)), [
    2 ** 40,
    0,
    2 ** 40 + 2,
    2 ** 40 + 3,
    2 ** 40 + 4,
    0,
    0,
  ]);
});

Deno.test("IdNumbers.clear() forgets all", () => {
  const numbers = new IdNumbers();
  numbers.set(5, 6);
  numbers.clear();
  assertEquals(numbers.get(5), 0);
});
