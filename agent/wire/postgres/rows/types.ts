/** Type object ids of pg_type.dat that a mask has to know; they never change. */

export const textType = 25;
/** Text of any form: a mask of the same length is a value of the type. `char(n)` and `varchar(n)` keep their length. */
export const textTypes: ReadonlySet<number> = new Set([textType, 1043, 1042, 19, 18, 705, 2275]);
export const jsonType = 114;
export const jsonbType = 3802;
export const int8Type = 20;
export const numericType = 1700;
export const float8Type = 701;
export const byteaType = 17;
export const recordType = 2249;

/** Of fixed size, and none of them can hold what a detector finds. */
export const shortTypes: ReadonlySet<number> = new Set([
  16, 21, 23, 26, 700, 1082, 1083, 1114, 1184, 1186, 1266, 2950, 790, 28, 29, 27, 3220, 603, 600, 601, 602, 604, 718,
]);

/** Array types of types above, with their element; others are read by the element type in the value itself. */
export const arrayTypes: ReadonlySet<number> = new Set([
  1009, 1015, 1014, 1002, 1003, 1016, 1231, 1022, 1001, 199, 3807, 2287, 1005, 1007, 1000, 1182, 1115, 1185, 2951,
]);
